"""A running topology: its hosts, from a description until they are taken down."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from netns_fixtures.check import check
from netns_fixtures.errors import TopologyError
from netns_fixtures.host import Host
from netns_fixtures.isolation import require_isolation
from netns_fixtures.loader import load, parse
from netns_fixtures.namespace import Namespace
from netns_fixtures.spec import TopologySpec

_ROOT = Path("/run/netns-fixtures")
"""On the private /run of an isolated process, so that no path is seen by, or clashes with, another's."""

_serial = itertools.count(1)

Source = TopologySpec | Mapping[str, Any] | str | Path
"""A description, tables as a TOML file holds them, or the path of a TOML file."""


class Topology:
    """Hosts that run: `topology.hosts["client"]`, or `topology.client` where the name allows."""

    def __init__(self, source: Source) -> None:
        """Check the description and build it; nothing is left of it if that fails.

        TopologyError if the description is wrong, KernelRefused if the kernel will not have it,
        IsolationError if the process still shares the machine's network.
        """
        self.spec = described(source)
        self._directory = _ROOT / f"{os.getpid()}-{next(_serial)}"
        self._namespaces: dict[str, Namespace] = {}
        self._hosts: dict[str, Host] = {}
        check(self.spec)
        require_isolation()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts by name, adopted ones included."""
        return MappingProxyType(self._hosts)

    def __getattr__(self, name: str) -> Host:
        hosts: dict[str, Host] = self.__dict__.get("_hosts", {})
        if name in hosts:
            return hosts[name]
        raise AttributeError(f'the topology has no host "{name}"; hosts are {", ".join(hosts)}')

    def adopt(self, name: str, path: str | Path) -> Host:
        """Count a namespace that something else made as a host; it is left alone when the topology closes."""
        if name in self._hosts:
            raise TopologyError(f'host "{name}": the topology has one already; adopt it under another name')
        self._hosts[name] = Host(name, path)
        return self._hosts[name]

    def close(self) -> None:
        """End what runs in the hosts and remove their namespaces; harmless when called twice."""
        for host in self._hosts.values():
            host.close()
        while self._namespaces:
            _, namespace = self._namespaces.popitem()
            namespace.remove()
        self._hosts.clear()
        if self._directory.exists():
            self._directory.rmdir()

    def __enter__(self) -> Topology:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self) -> None:
        from netns_fixtures.build import build

        self._directory.mkdir(parents=True)
        for name in self.spec.hosts:
            self._namespaces[name] = Namespace.create(self._directory / name)
        build(self.spec, self._namespaces)
        self._hosts = {name: Host(name, namespace.path) for name, namespace in self._namespaces.items()}


def described(source: Source) -> TopologySpec:
    """The description behind any of the forms that a topology is given in."""
    if isinstance(source, TopologySpec):
        return source
    if isinstance(source, Mapping):
        return parse(source)
    return load(source)
