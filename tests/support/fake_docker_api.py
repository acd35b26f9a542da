"""dockerd's own API over a dockerd that is played: networks, the names of containers, and renames as events."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import unix_http
from tests.support.fake_dockerd import DockerError, FakeDockerd
from tests.support.fake_dockerd.model import Container, Network, Subnet

_TICK = 0.05


class FakeDockerApi:
    """Whoever uses the dockerd beside it holds `lock`: it is not for several threads."""

    def __init__(self, dockerd: FakeDockerd) -> None:
        self.dockerd = dockerd
        self.lock = threading.RLock()
        self.labels: dict[str, dict[str, str]] = {}
        """By the network's id."""
        self.aliases: dict[str, list[str]] = {}
        """By the container's name."""
        self.refuses_to_create = ""
        self.away = False
        self.asked: list[str] = []
        self._ended = threading.Event()
        self._events: list[queue.Queue[bytes]] = []

    def rename(self, container: str, name: str) -> None:
        with self.lock:
            renamed = self.dockerd.containers.pop(container)
            renamed.name = name
            self.dockerd.containers[name] = renamed
        for listener in self._events:
            listener.put(b'{"Type":"container","Action":"rename"}\n')

    def answer(self, request: unix_http.Request) -> unix_http.Response:
        path = request.path.partition("?")[0]
        self.asked.append(f"{request.method} {path}")
        if path == "/events" and not self.away:
            return unix_http.Response(200, "application/json", stream=self._stream())
        with self.lock:
            status, document = self._answer(request.method, path, request.body)
        return unix_http.Response(status, "application/json", json.dumps(document).encode())

    def _stream(self) -> Iterator[bytes]:
        mine: queue.Queue[bytes] = queue.Queue()
        self._events.append(mine)
        while not self._ended.is_set():
            try:
                yield mine.get(timeout=_TICK)
            except queue.Empty:
                continue

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if self.away:
            return 503, {"message": "no"}
        if (method, path) == ("POST", "/networks/create"):
            return self._create(json.loads(body))
        if path == "/networks":
            return 200, [self._network(network) for network in self.dockerd.networks.values()]
        kind, ident = path.split("/")[1:3]
        if kind == "containers":
            return self._container(ident)
        found = next((n for n in self.dockerd.networks.values() if n.id == ident), None)
        if found is None:
            return 404, {"message": f"network {ident} not found"}
        if method == "DELETE":
            return self._remove(found)
        attached = {
            _id(container): {"Name": container.name, "EndpointID": endpoint.id}
            for container, endpoint in self._within(found)
        }
        return 200, {**self._network(found), "Containers": attached}

    def _create(self, asked: Any) -> tuple[int, Any]:
        if self.refuses_to_create:
            return 500, {"message": self.refuses_to_create}
        configs = asked["IPAM"]["Config"]
        try:
            made = self.dockerd.network_create(
                asked["Name"],
                subnets=[Subnet(c["Subnet"], c.get("IPRange", ""), c.get("Gateway", "")) for c in configs],
                driver=asked["Driver"],
                ipam_driver=asked["IPAM"]["Driver"],
                options=asked["Options"],
                ipam_options=asked["IPAM"]["Options"],
                internal=asked["Internal"],
                ipv4=asked["EnableIPv4"],
                ipv6=asked["EnableIPv6"],
            )
        except DockerError as error:
            return 500, {"message": str(error)}
        self.labels[made.id] = asked["Labels"]
        return 201, {"Id": made.id}

    def _remove(self, network: Network) -> tuple[int, Any]:
        try:
            self.dockerd.network_rm(network.name)
        except DockerError as error:
            return 403, {"message": str(error)}
        return 204, None

    def _network(self, network: Network) -> dict[str, Any]:
        config = [{"Subnet": pool.subnet} for pool in network.pools]
        return {
            "Id": network.id,
            "Name": network.name,
            "Driver": network.driver,
            "Labels": self.labels.get(network.id),
            "IPAM": {"Driver": network.ipam, "Config": config},
        }

    def _within(self, network: Network) -> Iterator[tuple[Container, Any]]:
        for container in self.dockerd.containers.values():
            for endpoint in container.sandbox.endpoints if container.sandbox else ():
                if endpoint.network is network:
                    yield container, endpoint

    def _container(self, ident: str) -> tuple[int, Any]:
        found = next((c for c in self.dockerd.containers.values() if _id(c) == ident), None)
        if found is None:
            return 404, {"message": f"No such container: {ident}"}
        endpoints = found.sandbox.endpoints if found.sandbox else ()
        networks = {
            e.network.name: {"EndpointID": e.id, "Aliases": self.aliases.get(found.name)} for e in endpoints
        }
        return 200, {
            "Name": f"/{found.name}",
            "HostConfig": {"Dns": found.dns},
            "NetworkSettings": {"Networks": networks},
        }

    @contextmanager
    def serve(self, socket: Path) -> Iterator[None]:
        """At its socket for as long as the context lasts."""
        try:
            with unix_http.serve(self.answer, socket):
                yield
        finally:
            self._ended.set()


def _id(container: Container) -> str:
    """64 digits that stay when it is renamed."""
    return f"{id(container):064x}"
