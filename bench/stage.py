"""What is measured on: a cnmd of its own in namespaces of its own, and what goes on it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.client import Client, request
from tests.support.cnmd import Cnmd, running

_BRIDGED_PACKETS = ("iptables", "ip6tables", "arptables")
PORT = {"ContainerPort": 80, "HostPort": 8080}


class Stage:
    """A running daemon and a kept connection to it."""

    def __init__(self, daemon: Cnmd) -> None:
        self.daemon = daemon
        self.client = Client(daemon.socket)

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def reconnect(self) -> None:
        self.client.close()
        self.client = Client(self.daemon.socket)

    def create_network(self, name: str, **options: Any) -> None:
        self.client.ask("POST", "/networks/create", {"Name": name, **options})

    def create_sandbox(self, name: str) -> None:
        self.client.ask("POST", "/cnm/v1/sandboxes", {"Name": name})

    def connect(self, network: str, sandbox: str, **config: Any) -> None:
        self.client.send(connecting(network, sandbox, **config))

    def disconnect(self, network: str, sandbox: str) -> None:
        self.client.send(disconnecting(network, sandbox))


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """The caller's process is isolated; br_netfilter is off, as on a host that nobody changed."""
    for protocol in _BRIDGED_PACKETS:
        switch = Path(f"/proc/sys/net/bridge/bridge-nf-call-{protocol}")
        if switch.exists():
            switch.write_text("0")
    with tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory, running(Path(directory)) as daemon:
        try:
            yield Stage(daemon)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\nthe daemon's log:\n{daemon.log[-2000:]}") from error


def connecting(network: str, sandbox: str, **config: Any) -> bytes:
    """The request that creates an endpoint and joins it."""
    body = {"Container": sandbox, "EndpointConfig": config}
    return request("POST", f"/networks/{network}/connect", body)


def disconnecting(network: str, sandbox: str) -> bytes:
    return request("POST", f"/networks/{network}/disconnect", {"Container": sandbox})
