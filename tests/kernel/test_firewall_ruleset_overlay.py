"""What the constant rules do to VXLAN of a cluster's networks: real datagrams, both families, no daemon involved.

`peer` is a node of the cluster, `stranger` is on the same wire; peer and host also share a link of the tunnels' group.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import Ether

from cnm.firewall import ruleset
from cnm.firewall.elements import overlay_elements
from cnm.kernel.nft import Nft
from cnm.kernel.state import FirewallElement, Group
from netns_fixtures import Host, Outcome, Topology, probe_all

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
SIZES = pytest.mark.parametrize("size", [64, 4000], ids=["whole", "fragmented"])

SECRET, CLEAR, FOREIGN = 13, 0xABCDEF, 14
PORT, OTHER_PORT = 4789, 8472

_WIRE = {"host": 1, "peer": 2, "stranger": 3}


def address(host: str, version: int) -> str:
    """On the wire that all share."""
    return f"192.0.2.{_WIRE[host]}" if version == 4 else f"2001:db8:1::{_WIRE[host]}"


def inside(host: str, version: int) -> str:
    """On the link that stands for a tunnel."""
    return f"10.99.0.{_WIRE[host]}" if version == 4 else f"fd99::{_WIRE[host]}"


def description() -> dict[str, Any]:
    ports = [
        {
            "ends": [
                {"host": "switch", "interface": name, "bridge": "wire"},
                {
                    "host": name,
                    "interface": "eth0",
                    "addresses": [f"{address(name, 4)}/24", f"{address(name, 6)}/64"],
                },
            ]
        }
        for name in _WIRE
    ]
    tunnel = [
        {"host": name, "interface": "cw0", "addresses": [f"{inside(name, 4)}/24", f"{inside(name, 6)}/64"]}
        for name in ("host", "peer")
    ]
    hosts: dict[str, Any] = {name: {} for name in _WIRE} | {"switch": {"bridges": {"wire": {}}}}
    return {"hosts": hosts, "links": [*ports, {"ends": tunnel}]}


class OverlayLab:
    """Our tables in `host`, with the elements of a cluster of two nodes, and a UDP server in each host."""

    def __init__(self, topology: Topology) -> None:
        self.host, self.peer, self.stranger = (topology.hosts[name] for name in _WIRE)
        self.host.run(["ip", "link", "set", "cw0", "group", str(int(Group.TUNNEL))])
        nodes = [address(name, version) for name in ("host", "peer") for version in (4, 6)]
        self.elements = overlay_elements([SECRET, CLEAR], [SECRET], nodes, PORT)
        with self.host.enter():
            self.nft = Nft()
        self.nft.start(ruleset.start_text(self.elements))
        self.server = self.host.serve_udp(PORT)
        self.host.serve_udp(OTHER_PORT)
        for host in (self.peer, self.stranger):
            for port in (PORT, OTHER_PORT):
                host.serve_udp(port)

    @contextmanager
    def without(self, elements: Sequence[FirewallElement]) -> Iterator[None]:
        self.nft.apply((), elements)
        try:
            yield
        finally:
            self.nft.apply(elements, ())


@pytest.fixture(scope="module")
def lab(make_module_topology: Callable[..., Topology]) -> OverlayLab:
    return OverlayLab(make_module_topology(description()))


def vxlan(vni: int, size: int = 64) -> bytes:
    """A VXLAN header (RFC 7348) and what would be a frame."""
    return struct.pack(">II", 0x08 << 24, vni << 8) + bytes(size)


def passes(sender: Host, to: str, vni: int, size: int = 64, port: int = PORT) -> bool:
    """Whether it is answered; answers are no VXLAN."""
    return sender.send_udp(to, port, vxlan(vni, size), timeout=0.25).answered


@FAMILIES
@SIZES
def test_cleartext_of_an_encrypted_network_does_not_come_in(lab: OverlayLab, size: int, version: int) -> None:
    assert not passes(lab.peer, address("host", version), SECRET, size)
    assert not passes(lab.stranger, address("host", version), SECRET, size)


@FAMILIES
@SIZES
def test_cleartext_of_an_encrypted_network_does_not_leave(lab: OverlayLab, size: int, version: int) -> None:
    assert not passes(lab.host, address("peer", version), SECRET, size)


@FAMILIES
@SIZES
def test_an_encrypted_network_passes_by_a_tunnel_both_ways(lab: OverlayLab, size: int, version: int) -> None:
    assert passes(lab.peer, inside("host", version), SECRET, size)
    assert passes(lab.host, inside("peer", version), SECRET, size)


@FAMILIES
@SIZES
def test_another_network_passes_between_nodes_in_the_clear(lab: OverlayLab, size: int, version: int) -> None:
    assert passes(lab.peer, address("host", version), CLEAR, size)
    assert passes(lab.host, address("peer", version), CLEAR, size)


@FAMILIES
def test_another_network_passes_by_a_tunnel_too(lab: OverlayLab, version: int) -> None:
    """Whoever speaks there is known better than by an address."""
    assert passes(lab.peer, inside("host", version), CLEAR)


@FAMILIES
def test_frames_of_a_stranger_do_not_come_in(lab: OverlayLab, version: int) -> None:
    assert not passes(lab.stranger, address("host", version), CLEAR)


@FAMILIES
def test_vxlan_of_other_people_is_untouched(lab: OverlayLab, version: int) -> None:
    assert passes(lab.stranger, address("host", version), FOREIGN)
    assert passes(lab.host, address("stranger", version), FOREIGN)
    assert passes(lab.stranger, address("host", version), SECRET, port=OTHER_PORT)
    assert passes(lab.host, address("stranger", version), SECRET, port=OTHER_PORT)


def test_extension_headers_hide_no_cleartext(lab: OverlayLab) -> None:
    start = Ether(dst=lab.host.mac("eth0")) / IPv6(dst=address("host", 6))
    options = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])

    lab.peer.send(start / options / UDP(sport=1001, dport=PORT) / vxlan(SECRET), "eth0")
    lab.peer.send(start / options / UDP(sport=1002, dport=PORT) / vxlan(CLEAR), "eth0")
    lab.server.wait_for_peer(lambda peer: peer.port == 1002)

    assert 1001 not in [peer.port for peer in lab.server.peers]


@FAMILIES
def test_what_is_too_short_for_vxlan_is_not_taken_for_it(lab: OverlayLab, version: int) -> None:
    assert lab.stranger.send_udp(address("host", version), PORT, vxlan(SECRET)[:6]).answered


def closed_ways(lab: OverlayLab) -> dict[str, Callable[[], Outcome]]:
    """All that the rules close, by what it is."""
    ways = {}
    for version in (4, 6):
        for what, sender, to, vni in (
            ("cleartext from a node", lab.peer, "host", SECRET),
            ("cleartext from a stranger", lab.stranger, "host", SECRET),
            ("cleartext to a node", lab.host, "peer", SECRET),
            ("a stranger's frame", lab.stranger, "host", CLEAR),
        ):
            target = address(to, version)
            ways[f"{what} by IPv{version}"] = partial(sender.send_udp, target, PORT, vxlan(vni), timeout=0.15)
    return ways


def opened(ways: dict[str, Callable[[], Outcome]]) -> list[str]:
    outcomes = probe_all(ways.values())
    return [name for name, outcome in zip(ways, outcomes, strict=True) if outcome.answered]


def test_nothing_opens_without_any_one_element(lab: OverlayLab) -> None:
    ways = closed_ways(lab)
    found = {}

    for element in lab.elements:
        with lab.without([element]):
            if open_now := opened(ways):
                found[f"{element.set.name} {element.key}"] = open_now

    assert found == {}
    assert len(lab.elements) == 8


def test_without_networks_of_a_cluster_everything_passes(lab: OverlayLab) -> None:
    ways = closed_ways(lab)

    with lab.without(lab.elements):
        open_now = opened(ways)

    assert open_now == list(ways)
    assert opened(ways) == []


def test_what_libnftables_writes_is_what_our_encoder_reads_and_writes(lab: OverlayLab) -> None:
    sets = list(dict.fromkeys(element.set for element in lab.elements))

    written = lab.nft.observe(sets)
    with lab.without(lab.elements):
        assert lab.nft.observe(sets) == frozenset()
        lab.nft.apply(lab.elements, ())
        listed = lab.host.run(["nft", "list", "set", "inet", "cnm", "overlay_vnis"]).stdout

    assert written == frozenset(lab.elements)
    assert f"{PORT} . {SECRET:#x}" in listed
    assert f"{PORT} . {CLEAR:#x}" in listed
    assert lab.nft.broken_tables() == ()
