"""The part of dockerd's own API that cnmd asks, at a socket of this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import unix_http


@dataclass
class DockerdApiDouble:
    """What dockerd would answer; `status` other than 200 is answered to everything."""

    version: str = "29.7.2"
    live_restore: bool = False
    networks: dict[str, str] = field(default_factory=dict)
    """Name by id."""
    containers: dict[str, dict[str, str]] = field(default_factory=dict)
    """By the network's id: container's name by the endpoint's id."""
    pools: dict[str, list[str]] = field(default_factory=dict)
    """Subnets of our IPAM by the network's id."""
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, Any]:
        self.asked.append(path)
        if self.status != 200:
            return self.status, {"message": "no"}
        if path == "/version":
            return 200, {"Version": self.version, "ApiVersion": "1.52"}
        if path == "/info":
            return 200, {"LiveRestoreEnabled": self.live_restore}
        if path == "/networks":
            return 200, [self._network(ident) for ident in self.networks]
        ident = path.removeprefix("/networks/")
        if ident not in self.networks:
            return 404, {"message": f"network {ident} not found"}
        attached = self.containers.get(ident, {})
        within = {f"c{n}": {"Name": name, "EndpointID": e} for n, (e, name) in enumerate(attached.items())}
        return 200, {**self._network(ident), "Containers": within}

    def _network(self, ident: str) -> dict[str, Any]:
        config = [{"Subnet": subnet} for subnet in self.pools.get(ident, [])]
        ipam = {"Driver": "cnm", "Config": config}
        return {"Id": ident, "Name": self.networks[ident], "Driver": "cnm", "IPAM": ipam}


@contextmanager
def serve(double: DockerdApiDouble, socket: Path) -> Iterator[None]:
    """At its socket for as long as the context lasts."""

    def answer(request: unix_http.Request) -> unix_http.Response:
        status, document = double.answer(request.path)
        return unix_http.Response(status, "application/json", json.dumps(document).encode())

    with unix_http.serve(answer, socket):
        yield
