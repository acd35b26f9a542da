"""What an overlay is on the wire, made of records on three hosts, without a driver, a daemon or a cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from cnm.firewall import ruleset, sets
from cnm.kernel.linux import LinuxKernel
from cnm.kernel.state import KernelState, RemotePeer
from netns_fixtures import Host, Topology
from tests.packet.lab import DROP_SECONDS, FAMILIES, PASS_SECONDS
from tests.support.names_lab import eventually
from tests.support.overlays import DEVICE, VNI, addresses, inside, mac, network, peer, port

PORT = 4789
NUMBERS = (1, 2, 3)
UNDERLAYS = {4: "192.0.2.{}", 6: "2001:db8::{}"}
MTUS = {4: 1450, 6: 1430}
"""What VXLAN leaves of 1,500 bytes, by the family of the underlay."""
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and ICMP before an echo request's data."""
UNKNOWN = {4: "10.64.0.99", 6: "fd42::99"}


def world() -> dict[str, Any]:
    """Three hosts at a switch."""
    hosts = {f"host{n}": {} for n in NUMBERS}
    links = [
        {
            "ends": [
                {"host": "switch", "interface": f"port{n}", "bridge": "br0"},
                {
                    "host": f"host{n}",
                    "interface": "eth0",
                    "addresses": [f"{UNDERLAYS[4].format(n)}/24", f"{UNDERLAYS[6].format(n)}/64"],
                },
            ]
        }
        for n in NUMBERS
    ]
    return {"hosts": hosts | {"switch": {"bridges": {"br0": {}}}}, "links": links}


class Node:
    """A host with the overlay network and a sandbox of its own; endpoint NUMBER is in it."""

    def __init__(self, host: Host, place: Path, number: int, underlay: int) -> None:
        self.host, self.number = host, number
        self.vtep = UNDERLAYS[underlay].format(number)
        self.overlay, self.box = str(place / f"overlay{number}"), str(place / f"box{number}")
        self.mtu = MTUS[underlay]
        with host.enter():
            self.kernel = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text)
            self.kernel.create_namespace(self.overlay, bridged=True)
            self.kernel.create_namespace(self.box)
            self.kernel.apply([network(self.overlay, mtu=self.mtu, local=self.vtep)])
        self.attach(number)

    def close(self) -> None:
        with self.host.enter():
            self.kernel.remove([network(self.overlay, local=self.vtep)], wait=True)
            for path in (self.overlay, self.box):
                self.kernel.remove_namespace(path)
            self.kernel.close()

    def states(self, number: int) -> list[KernelState]:
        """The endpoint `number`, in this host's sandbox."""
        link = port(number, self.box, self.mtu)
        return [
            KernelState(namespace=self.overlay, own=True, links=(link,)),
            inside(self.box, number, self.mtu),
        ]

    def attach(self, number: int) -> None:
        with self.host.enter():
            self.kernel.apply(self.states(number))

    def detach(self, number: int) -> None:
        with self.host.enter():
            self.kernel.remove(self.states(number), wait=True)

    def program(self, added: Sequence[RemotePeer], removed: Sequence[RemotePeer] = ()) -> None:
        with self.host.enter():
            self.kernel.program_peers(self.overlay, DEVICE, added, removed)


class Overlay:
    """All nodes know all endpoints."""

    def __init__(self, topology: Topology, place: Path, underlay: int, closing: ExitStack) -> None:
        self.underlay = underlay
        self.nodes = {}
        for n in NUMBERS:
            self.nodes[n] = Node(topology.hosts[f"host{n}"], place, n, underlay)
            closing.callback(self.nodes[n].close)
        self.boxes = {n: topology.adopt(f"box{n}", node.box) for n, node in self.nodes.items()}
        for n, node in self.nodes.items():
            node.program([peer(other, self.nodes[other].vtep) for other in NUMBERS if other != n])

    def pings(self, source: int, target: int, version: int, seconds: float = PASS_SECONDS) -> bool:
        return self.boxes[source].ping(address(target, version), timeout=seconds)


@contextmanager
def overlay_over(underlay: int, place: Path) -> Iterator[Overlay]:
    with Topology(world()) as topology, ExitStack() as closing:
        yield Overlay(topology, place, underlay, closing)


@pytest.fixture(params=[4, 6], ids=["underlay ipv4", "underlay ipv6"])
def overlay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Overlay]:
    with overlay_over(request.param, tmp_path) as made:
        yield made


def address(number: int, version: int) -> str:
    return addresses(number)[version == 6]


def carried(packets: list[Packet]) -> list[Packet]:
    """Those of the tunnel."""
    return [packet for packet in packets if VXLAN in packet]


def inner(packet: Packet) -> Ether:
    frame: Ether = packet[VXLAN].payload
    return frame


def unicast(packet: Packet) -> bool:
    """Between two endpoints."""
    known = {mac(number) for number in NUMBERS}
    return inner(packet).src in known and inner(packet).dst in known


@FAMILIES
def test_every_endpoint_reaches_every_other(overlay: Overlay, version: int) -> None:
    pairs = [(a, b) for a in NUMBERS for b in NUMBERS if a != b]

    assert [pair for pair in pairs if not overlay.pings(*pair, version)] == []


@FAMILIES
def test_packets_of_the_mtu_pass_whole_and_longer_ones_are_refused_where_they_are_sent(
    overlay: Overlay, version: int
) -> None:
    box, size = overlay.boxes[1], MTUS[overlay.underlay] - HEADERS[version]
    command = ["ping", "-M", "do", "-c", "1", "-W", "3", "-s"]

    fits = box.run([*command, str(size), address(2, version)], check=False)
    too_long = box.run([*command, str(size + 1), address(2, version)], check=False)

    assert " 0% packet loss" in fits.stdout
    assert "message too long" in (too_long.stdout + too_long.stderr).lower()


@FAMILIES
def test_the_outer_header_is_the_tunnels(overlay: Overlay, version: int) -> None:
    node = overlay.nodes[1]
    with node.host.capture("eth0") as wire:
        assert overlay.pings(1, 2, version)
        request = wire.expect(lambda p: VXLAN in p and p.direction == socket.PACKET_OUTGOING)

    outer = request[IP] if overlay.underlay == 4 else request[IPv6]
    assert (outer.src, outer.dst) == (node.vtep, overlay.nodes[2].vtep)
    assert request[UDP].dport == PORT
    assert (request[VXLAN].vni, int(request[VXLAN].flags)) == (VNI, 0x08)
    assert (inner(request).src, inner(request).dst) == (mac(1), mac(2))
    if overlay.underlay == 4:
        assert "DF" not in outer.flags
        assert outer.ttl == 64


@FAMILIES
def test_asking_who_has_an_address_never_leaves_the_host(overlay: Overlay, version: int) -> None:
    with overlay.nodes[1].host.capture("eth0") as wire:
        for number in (2, 3):
            assert overlay.pings(1, number, version)
            assert overlay.pings(number, 1, version)
        packets = carried(wire.packets)

    assert len(packets) == 8
    assert all(map(unicast, packets))


@FAMILIES
def test_nobody_answers_for_an_unknown_address_and_nobody_is_asked_elsewhere(
    overlay: Overlay, version: int
) -> None:
    with overlay.nodes[1].host.capture("eth0") as wire:
        answered = overlay.boxes[1].ping(UNKNOWN[version], timeout=DROP_SECONDS)
        assert overlay.pings(1, 2, version)  # what was flooded would have come before
        packets = carried(wire.packets)

    assert not answered
    assert [packet.summary() for packet in packets if not unicast(packet)] == []
    assert len(packets) == 2


@FAMILIES
def test_traffic_follows_an_endpoint_to_another_host(overlay: Overlay, version: int) -> None:
    one, two, three = overlay.nodes.values()
    assert overlay.pings(1, 2, version)

    two.detach(2)
    three.program([], [peer(2, two.vtep)])
    three.detach(3)
    three.attach(2)
    one.program([peer(2, three.vtep)])
    two.program([peer(2, three.vtep)])

    with three.host.capture("eth0") as wire:
        assert overlay.pings(1, 2, version)
        arrived = [p for p in carried(wire.packets) if inner(p).dst == mac(2)]
    assert [p.direction for p in arrived] == [socket.PACKET_HOST]


@FAMILIES
def test_an_endpoint_that_was_removed_is_sought_in_vain(overlay: Overlay, version: int) -> None:
    one = overlay.nodes[1]
    assert overlay.pings(1, 2, version)

    one.program([], [peer(2, overlay.nodes[2].vtep)])

    with one.host.capture("eth0") as wire:
        assert not overlay.pings(1, 2, version, DROP_SECONDS)
        assert overlay.pings(1, 3, version)
        packets = carried(wire.packets)
    assert {inner(packet).dst for packet in packets} == {mac(1), mac(3)}


@FAMILIES
def test_removing_the_device_cuts_the_host_off(overlay: Overlay, version: int) -> None:
    one = overlay.nodes[1]
    with one.host.enter():
        one.kernel.remove([network(one.overlay, mtu=one.mtu, local=one.vtep)])

    assert not overlay.pings(1, 2, version, DROP_SECONDS)
    assert not overlay.pings(2, 1, version, DROP_SECONDS)
    assert overlay.pings(2, 3, version)


@FAMILIES
def test_a_frame_of_another_tunnel_is_not_let_in(overlay: Overlay, version: int) -> None:
    """The same network under another VNI."""
    two = overlay.nodes[2]
    other = network(two.overlay, port(2, two.box, two.mtu), mtu=two.mtu, local=two.vtep, vni=VNI + 1)
    with two.host.enter():
        two.kernel.apply([other])
    two.program([peer(number, overlay.nodes[number].vtep) for number in (1, 3)])

    assert not overlay.pings(1, 2, version, DROP_SECONDS)
    assert overlay.pings(1, 3, version)


def test_broadcasts_reach_whom_the_network_asks_for_and_questions_still_do_not(overlay: Overlay) -> None:
    one, two, _three = overlay.nodes.values()
    with one.host.enter():
        one.kernel.flood(one.overlay, DEVICE, [two.vtep], ())
    with overlay.boxes[2].capture("eth0") as near, overlay.boxes[3].capture("eth0") as far:
        with one.host.capture("eth0") as wire:
            for unknown in UNKNOWN.values():
                assert not overlay.boxes[1].ping(unknown, timeout=DROP_SECONDS)
            sender = overlay.boxes[1].socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sender.sendto(b"to everybody", ("10.255.255.255", 9))
            near.expect(lambda p: UDP in p and p[UDP].dport == 9)
            assert overlay.pings(1, 3, 4)
            packets = carried(wire.packets)
        assert not [p for p in far.packets if UDP in p]

    flooded = [packet for packet in packets if not unicast(packet)]
    assert [inner(p).dst for p in flooded if UDP in inner(p)] == ["ff:ff:ff:ff:ff:ff"]
    assert [p.summary() for p in flooded if ARP in inner(p) or ICMPv6ND_NS in inner(p)] == []


@FAMILIES
def test_a_device_that_somebody_deleted_comes_back_and_its_peers_are_written_again(
    overlay: Overlay, version: int
) -> None:
    one = overlay.nodes[1]
    one.host.run(["nsenter", f"--net={one.overlay}", "ip", "link", "del", DEVICE])
    eventually(lambda: not overlay.pings(1, 2, version, DROP_SECONDS))

    state = network(one.overlay, port(1, one.box, one.mtu), mtu=one.mtu, local=one.vtep)
    with one.host.enter():
        one.kernel.apply([state])
        left = one.kernel.observe_peers(one.overlay, DEVICE)
    one.program([peer(number, overlay.nodes[number].vtep) for number in (2, 3)])

    assert left.peers == ()
    assert overlay.pings(1, 2, version)
