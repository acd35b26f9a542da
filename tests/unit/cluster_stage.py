"""Some hosts of one cluster: a stage each, over fake kernels and an etcd in memory that all are clients of."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnm.cluster import keys
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.identity import transport_pool
from cnm.cluster.records import Cluster, Node, encode
from cnm.endpoint import Endpoint, EndpointRequest
from cnm.kernel.state import ObservedPeers
from cnm.network import Network
from cnm.sandbox import Sandbox
from tests.unit.verbs_stage import Stage

SECONDS = 5.0
CLUSTER_ID = "c" * 32
POOL = transport_pool(CLUSTER_ID)
CLUSTER = Cluster(id=CLUSTER_ID, created="2026-01-01T00:00:00Z", transport=POOL)


class Host(Stage):
    """A stage that is in a cluster from `begin` on, and again after each restart."""

    def __init__(self, name: str, address: str, place: Path, store: MemoryStore, **settings: Any) -> None:
        self.node = Node(name=name, address=address, mtu=1500)
        self._store_of_all = store
        self.etcd = MemoryEtcd(store)
        (place / "root" / "cluster").mkdir(parents=True, exist_ok=True)
        super().__init__(place, **settings)

    def start(self) -> None:
        super().start()
        self.controller.enter_cluster(self.etcd, self.node.name, self.node.address, member=False)

    def end(self) -> None:
        self.controller.close_cluster()
        super().end()

    def crash(self) -> None:
        """The daemon is killed: nobody hears of it."""
        self.end()

    def overlay(self, name: str = "web", **request: Any) -> Network:
        return self.network(name, driver="overlay", **request)

    def join(self, box: str, network: str = "web", **request: Any) -> Endpoint:
        return self.controller.connect(network, box, EndpointRequest(**request))

    def boxed(self, box: str, network: str = "web", **request: Any) -> tuple[Sandbox, Endpoint]:
        sandbox = self.sandbox(box)
        return sandbox, self.join(box, network, **request)

    def space(self, network: Network) -> str:
        return f"{self.settings.netns}/{network.id[:12]}"

    def peers(self, network: Network) -> ObservedPeers:
        return self.kernel.observe_peers(self.space(network), f"vx{network.decided['vni']}")

    def reached(self, network: Network) -> dict[str, str]:
        """VTEPs by address of the endpoints that packets are sent to elsewhere."""
        if self.space(network) not in self.kernel.spaces:
            return {}
        return {address: peer.vtep for peer in self.peers(network).peers for address in peer.addresses}


class Hosts:
    """Three of them by default."""

    def __init__(self, place: Path, count: int = 3, **options: Any) -> None:
        self.store = MemoryStore()
        MemoryEtcd(self.store).put(keys.CLUSTER, encode(CLUSTER))
        self.all = [
            Host(f"h{number}", f"192.0.2.{number}", place / f"h{number}", self.store, **options)
            for number in range(1, count + 1)
        ]
        for host in self.all:
            eventually(lambda host=host: len(host.resources.cluster.nodes.all()) == count)

    def end(self) -> None:
        for host in self.all:
            host.end()

    def everywhere(self, name: str = "web") -> list[Network]:
        """The network on every host, once all have heard of it."""
        eventually(lambda: all(name in {n.name for n in host.controller.networks()} for host in self.all))
        return [host.controller.network(name) for host in self.all]


def eventually(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.002)
