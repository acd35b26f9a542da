"""A daemon without its HTTP face, in this very process: the real controller, kernel, store and relay.

Ids are dealt in a fixed order, so that two runs of the same verbs can be compared byte by byte.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from cnm import daemon
from cnm.config import Settings
from cnm.controller import Controller
from cnm.endpoint import Endpoint, EndpointRequest
from cnm.firewall import ruleset, sets
from cnm.kernel.linux import LinuxKernel
from cnm.network import Network, NetworkRequest
from cnm.resolvers import Resolver
from cnm.sandbox import Sandbox
from cnm.store import Store
from cnm.wire.plugin_retry import RealClock

_RESOLVER_SECONDS = 20.0
_HOST_ID = "0123456789abcdef" * 2


class InProcessDaemon:
    """One daemon over `place`, in the namespaces of the calling thread; `series` sets its ids apart from others'."""

    def __init__(self, place: Path, series: str) -> None:
        _deal_ids(series)
        self.settings = Settings(root=str(place / "root"), run=str(place / "run"), etc=str(place / "etc"))
        daemon._make_directories(self.settings)
        self._kernel = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text)
        self._store = Store(self.settings.database)
        if self._store.setting("host-id") is None:
            self._store.remember("host-id", _HOST_ID)
        remote = daemon._remote_plugins(self.settings, RealClock())
        self._resources = daemon._resources(self.settings, self._store, self._kernel, remote)
        self.controller = Controller(self._resources)

    def start(self) -> None:
        self.controller.start()
        self._resources.afterwork.join()

    def settle(self) -> None:
        """Wait for the resolver, which starts behind the verbs' answers: what comes next finds it always, or never."""
        naming, deadline = self._resources.naming, time.monotonic() + _RESOLVER_SECONDS
        while naming.needed() and not naming._resolver.is_told():
            if time.monotonic() > deadline:
                raise TimeoutError("the resolver does not start")
            time.sleep(0.005)

    def close(self) -> None:
        self._resources.relaying.close()
        self._resources.naming.close()
        self._store.close()
        self._kernel.close()

    def nouns(self) -> dict[str, Any]:
        """Everything that the daemon knows, without the times of creation."""
        c = self.controller
        networks = [{**_plain(n), "addresses": c.pool_status(n)} for n in c.networks()]
        return {
            "networks": sorted(networks, key=lambda n: str(n["name"])),
            "sandboxes": sorted((_plain(s) for s in c.sandboxes()), key=lambda s: str(s["name"])),
            "endpoints": sorted((_plain(e) for e in c.endpoints()), key=lambda e: str(e["id"])),
        }

    def findings(self) -> list[str]:
        return [f"{f.problem.value}: {f.wanted or f.observed} {f.detail}" for f in self.controller.doctor()]

    def next_choices(self) -> dict[str, Any]:
        """What the daemon would choose now: a subnet, and an address in each network."""
        c = self.controller
        network = c.create_network(NetworkRequest(name="next", enable_ipv6=True))
        chosen: dict[str, Any] = {"subnets": [pool.subnet for pool in network.pools]}
        c.delete_network(network.id)
        for network in c.networks():
            if network.pools:
                endpoint = c.create_endpoint(network.id, EndpointRequest(name="next"))
                chosen[network.name] = [endpoint.ipv4, endpoint.ipv6]
                c.delete_endpoint(endpoint.id)
        return chosen

    def clear(self) -> None:
        """Take everything away by the daemon's own verbs."""
        for sandbox in self.controller.sandboxes():
            self.controller.delete_sandbox(sandbox.id, force=True)
        for endpoint in self.controller.endpoints():
            self.controller.delete_endpoint(endpoint.id, force=True)
        self.controller.prune_networks(lambda _network: False)


def do_without_resolver() -> None:
    """For this process and its forks: what it would be told is told to nobody."""
    patch.object(Resolver, "tell", lambda _resolver, _told: None).start()
    patch.object(InProcessDaemon, "settle", lambda _daemon: None).start()


def _plain(noun: Network | Sandbox | Endpoint) -> dict[str, Any]:
    """Ids of predefined networks depend on how many starts it took to make the first."""
    unstable = {"created", "id"} if isinstance(noun, Network) and noun.predefined else {"created"}
    return {key: value for key, value in msgspec.to_builtins(noun).items() if key not in unstable}


def _deal_ids(series: str) -> None:
    """Ids of 64 hex digits that only depend on how many were dealt before."""
    numbers = itertools.count()

    def deal(_size: int) -> str:
        return hashlib.sha256(f"{series} {next(numbers)}".encode()).hexdigest()

    patch("cnm.model.secrets.token_hex", deal).start()
