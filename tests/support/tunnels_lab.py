"""Nodes of a cluster as hosts on one wire, each with the tunnels of a daemon; what etcd would tell is told by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cnm.cluster.records import Node
from cnm.cluster.tunnel_config import OwnEnd, TunnelConfig, tunnel_peer
from cnm.cluster.tunnels import Tunnels
from cnm.cluster.wireguard_keys import Announced, advance, first_ring, public_key
from cnm.firewall import ruleset, sets
from cnm.kernel.linux import LinuxKernel
from netns_fixtures import Host, Topology
from tests.support.unpacked import program

CLUSTER = "0123456789abcdef"
POOLS = {4: "10.99.0.0/16", 6: "fd99::/64"}
MTU = 1500
_PORT = 51820


def description(count: int) -> dict[str, Any]:
    """A topology file's content: hosts n1, n2 ... at eth0 of one switch."""
    hosts: dict[str, Any] = {"switch": {"bridges": {"wire": {}}}}
    links = []
    for number in range(1, count + 1):
        hosts[f"n{number}"] = {}
        addresses = [f"192.0.2.{number}/24", f"2001:db8:1::{number}/64"]
        end = {"host": f"n{number}", "interface": "eth0", "addresses": addresses}
        links.append(
            {"ends": [{"host": "switch", "interface": f"p{number}", "bridge": "wire"}, end], "mtu": MTU}
        )
    return {"hosts": hosts, "links": links}


class LabNode:
    """A host with tunnels; `record` is what it announces."""

    def __init__(self, host: Host, number: int, inner: int, outer: int) -> None:
        self.host, self.name = host, host.name
        self.transport = f"10.99.0.{number}" if inner == 4 else f"fd99::{number}"
        self.address = host.address("eth0", outer)
        self.pool = POOLS[inner]
        self.ring = first_ring({}, time.time())
        with host.enter():
            self.kernel = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text)
            self.kernel.start_firewall(())
            self.tunnels = self.new_tunnels()
        self._is_up = False

    def new_tunnels(self) -> Tunnels:
        """As a daemon that starts makes them; the calling thread is in the host."""
        return Tunnels(CLUSTER, self.name, self.kernel, program=str(program("wireguard-go")))

    def restart(self) -> None:
        """One daemon ends, and the next one begins; it has set nothing yet."""
        with self.host.enter():
            self.tunnels.leave()
            self.tunnels = self.new_tunnels()
        self._is_up = False

    @property
    def interface(self) -> str:
        """The name of the newest key's."""
        return self.interfaces[-1]

    @property
    def interfaces(self) -> tuple[str, ...]:
        return tuple(link.name for link in self.tunnels.wanted().links)

    @property
    def record(self) -> Node:
        current, following = self.ring.current, self.ring.next
        return Node(
            name=self.name,
            address=self.address,
            transport=self.transport,
            wireguard_key=public_key(current.private_key),
            wireguard_port=_PORT + current.slot,
            wireguard_generation=current.generation,
            next_wireguard_key=public_key(following.private_key) if following else "",
            next_wireguard_port=_PORT + following.slot if following else 0,
            next_wireguard_generation=following.generation if following else 0,
        )

    def config(self, others: Sequence[Node]) -> TunnelConfig:
        ends = tuple(
            OwnEnd(key.generation, key.slot, key.private_key, _PORT + key.slot) for key in self.ring.keys
        )
        peers = tuple(peer for r in others if (peer := tunnel_peer(r, r.transport)) is not None)
        return TunnelConfig(self.transport, self.pool, MTU, ends, peers)

    def set(self, others: Sequence[Node]) -> None:
        with self.host.enter():
            config = self.config(others)
            (self.tunnels.set if self._is_up else self.tunnels.up)(config)
            self._is_up = True

    def ping(self, other: LabNode, **options: Any) -> bool:
        return self.host.ping(other.transport, source=self.transport, **options)

    def close(self) -> None:
        with self.host.enter():
            self.tunnels.close()
        self.kernel.close()


class TunnelsLab:
    """`inner` is the IP version of transport addresses, `outer` that of the wire."""

    def __init__(self, topology: Topology, count: int, inner: int = 4, outer: int = 4) -> None:
        self.topology = topology
        self.clock: Callable[[], float] = time.time
        self.deaf: set[str] = set()
        """Names of nodes that etcd is away for."""
        self.nodes = [
            LabNode(topology.hosts[f"n{number}"], number, inner, outer) for number in range(1, count + 1)
        ]

    def spread(self) -> None:
        """Everybody hears what everybody announces now, but for the deaf."""
        records = [node.record for node in self.nodes]
        for node in self.nodes:
            if node.name not in self.deaf:
                node.set([record for record in records if record.name != node.name])

    def step(self, *, rotate: str = "") -> None:
        """Each node makes its next step of a rotation, if there is one, and then hears of the others'.

        The node called `rotate` begins one. The deaf do nothing.
        """
        for node in self.nodes:
            if node.name in self.deaf:
                continue
            others = {n.name: _announced(n.record) for n in self.nodes if n is not node}
            newest = node.ring.keys[-1].generation
            node.ring = advance(
                node.ring, others, node.tunnels.reached(newest), self.clock(), rotate=node.name == rotate
            )
        self.spread()

    def is_rotated(self) -> bool:
        """Make the next step; whether nobody has two keys any more."""
        self.step()
        return all(node.ring.keys == (node.ring.current,) for node in self.nodes)

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def _announced(record: Node) -> Announced:
    return Announced(record.wireguard_generation, record.next_wireguard_generation)


@contextmanager
def running_lab(topology: Topology, count: int, inner: int = 4, outer: int = 4) -> Iterator[TunnelsLab]:
    lab = TunnelsLab(topology, count, inner, outer)
    try:
        lab.spread()
        yield lab
    finally:
        lab.close()


def eventually(what: Callable[[], object], seconds: float = 10.0) -> float:
    """Wait until `what` is true; the seconds that it took. AssertionError where it does not come."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() < began + seconds, f"{what} is not so after {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - began
