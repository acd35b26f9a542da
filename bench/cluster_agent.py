"""A host's agent as a process of its own: the project's `Cluster` over the real kernel, and what it costs.

It reads commands, one JSON line each, and answers with one; started by `agent`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.child import Child, serve
from bench.cluster_population import node_name, vtep
from cnm.cluster.cluster import Cluster, Listeners, Place
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Following, Snapshot
from cnm.cluster.records import Node
from cnm.firewall import ruleset, sets
from cnm.kernel.linux import LinuxKernel
from cnm.kernel.state import ObservedPeers, RemotePeer
from tests.support.overlays import BRIDGE, DEVICE, network

HERE = 1
"""The number of the host that the agent is on."""
PATIENCE = 120.0
"""Seconds for what may take long."""
_PARTS = ("listed", "wrote", "read", "cpu")


class TimedKernel(LinuxKernel):
    """Knows how long it took to write remote endpoints, and when each was written last."""

    def __init__(self) -> None:
        super().__init__(sets.ELEMENT_SETS, ruleset.start_text)
        self.wrote = self.read = 0.0
        """Seconds in all."""
        self.written: dict[str, float] = {}
        """When, by MAC; of single changes only."""

    def program_peers(
        self, namespace: str, link: str, added: Sequence[RemotePeer], removed: Sequence[RemotePeer]
    ) -> None:
        start = time.monotonic()
        super().program_peers(namespace, link, added, removed)
        now = time.monotonic()
        self.wrote += now - start
        if len(added) < 1000:
            self.written.update(dict.fromkeys((peer.mac for peer in added), now))

    def observe_peers(self, namespace: str, link: str) -> ObservedPeers:
        start = time.monotonic()
        observed = super().observe_peers(namespace, link)
        self.read += time.monotonic() - start
        return observed


class TimedClient(Client):
    """Knows how long it took to read snapshots."""

    listed = 0.0

    def list(self, prefix: str, *, stale: bool = False) -> Snapshot:
        start = time.monotonic()
        snapshot = super().list(prefix, stale=stale)
        self.listed += time.monotonic() - start
        return snapshot


class _Work:
    """What the commands do."""

    def __init__(self, place: Path, endpoints: Sequence[str]) -> None:
        self._kernel = TimedKernel()
        pems = [(place / name).read_bytes() for name in ("ca.pem", "root.pem", "root-key.pem")]
        self._etcd = TimedClient(endpoints, *pems)
        self._known = threading.Event()
        self._cluster = Cluster(self._kernel, lambda: ())
        self._cluster.listeners = Listeners(
            lambda ident, network: None, lambda ident, peers: self._known.set()
        )
        self._cluster.describe(Node(name=node_name(HERE), address=vtep(HERE), mtu=1500), 4789)

    def begin(self, namespace: str = "", network_id: str = "") -> dict[str, float]:
        """With a network where it was in one already, which is known and in the kernel when this returns."""
        places = [_place(namespace, network_id)] if network_id else []
        self._cluster.begin(self._etcd, places, ())
        deadline = time.monotonic() + PATIENCE
        while self._cluster.stands is not Following.CURRENT or (places and not self._known.is_set()):
            if time.monotonic() > deadline:
                raise RuntimeError("the agent hears of nothing")
            time.sleep(0.001)
        return self.figures()

    def enter(self, namespace: str, network_id: str) -> dict[str, float]:
        """The network's first endpoint comes: `seconds` until those elsewhere can be reached, and what they went to."""
        self._kernel.create_namespace(namespace, bridged=True)
        self._kernel.apply([network(namespace, local=vtep(HERE))])
        before, start = self.figures(), time.monotonic()
        with self._cluster.taking_part(network_id) as found:
            self._cluster.enter(_place(namespace, network_id), found)
        took = time.monotonic() - start
        after = self.figures()
        return {"seconds": took} | {part: after[part] - before[part] for part in _PARTS}

    def exit(self, namespace: str, network_id: str) -> dict[str, float]:
        self._cluster.exit(network_id)
        self._kernel.remove([network(namespace, local=vtep(HERE))], wait=True)
        self._kernel.remove_namespace(namespace)
        return {}

    def written(self) -> dict[str, float]:
        """When endpoints were written, by MAC, since the last time."""
        written, self._kernel.written = self._kernel.written, {}
        return written

    def figures(self) -> dict[str, float]:
        """Resident MiB, and the most there ever were; seconds of the processor, and of the parts of the work."""
        lines = Path("/proc/self/status").read_text().splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        return {
            "resident": int(status["VmRSS"][0]) / 1024,
            "most": int(status["VmHWM"][0]) / 1024,
            "cpu": time.process_time(),
            "listed": self._etcd.listed,
            "wrote": self._kernel.wrote,
            "read": self._kernel.read,
        }


def _place(namespace: str, network_id: str) -> Place:
    return Place(network_id, namespace, BRIDGE, DEVICE, encrypted=False, multicast=False)


def agent(place: Path, endpoints: Sequence[str]) -> Child:
    """The process, as those who measure see it: `ask("enter", ...)` and so on are the methods above.

    `place` is an EtcdCluster's.
    """
    return Child(__spec__.name, str(place), *endpoints)


if __name__ == "__main__":
    serve(_Work(Path(sys.argv[1]), sys.argv[2:]))
