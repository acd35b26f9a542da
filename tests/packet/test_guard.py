"""The guard: what a container sends in another's name, by raw frames, reaches neither its sibling nor the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from cnm.firewall.elements import link_local
from netns_fixtures import Topology, match
from tests.packet.lab import OUTSIDE, Lab, running_lab, world

BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"
OTHER_MAC = "02:00:00:00:00:99"
LLC_FRAME = 60


@dataclass(frozen=True)
class Scene:
    """`b` of a network sends to `a`: MACs and addresses, IPv4 first."""

    mac: str
    own: tuple[str, str]
    victim_mac: str
    victim: tuple[str, str]
    gateway_mac: str
    gateway: tuple[str, str]
    token: bytes = b""
    """What the frame is known by."""

    def frame(self, destination: str = "") -> Packet:
        """From the sender's own MAC, to the victim's unless said otherwise."""
        return Ether(src=self.mac, dst=destination or self.victim_mac)


Forgery = Callable[[Scene], Packet]


def udp(scene: Scene) -> Packet:
    return UDP(sport=7, dport=7) / Raw(scene.token)


def advertisement(scene: Scene, source: str, target: str) -> Packet:
    packet = IPv6(src=source, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1)
    return packet / ICMPv6NDOptDstLLAddr(lladdr=scene.mac) / Raw(scene.token)


def arp(scene: Scene, **fields: Any) -> Packet:
    return (
        scene.frame(BROADCAST) / ARP(**{"hwsrc": scene.mac, "psrc": scene.own[0]} | fields) / Raw(scene.token)
    )


FORGED: dict[str, Forgery] = {
    "another's MAC, IPv4": lambda s: (
        Ether(src=s.gateway_mac, dst=s.victim_mac) / IP(src=s.own[0], dst=s.victim[0]) / udp(s)
    ),
    "another's MAC, IPv6": lambda s: (
        Ether(src=s.gateway_mac, dst=s.victim_mac) / IPv6(src=s.own[1], dst=s.victim[1]) / udp(s)
    ),
    "nobody's MAC": lambda s: (
        Ether(src=OTHER_MAC, dst=s.victim_mac) / IP(src=s.own[0], dst=s.victim[0]) / udp(s)
    ),
    "the victim's IPv4 address": lambda s: s.frame() / IP(src=s.victim[0], dst=s.victim[0]) / udp(s),
    "the victim's IPv6 address": lambda s: s.frame() / IPv6(src=s.victim[1], dst=s.victim[1]) / udp(s),
    "the gateway's IPv4 address": lambda s: s.frame() / IP(src=s.gateway[0], dst=s.victim[0]) / udp(s),
    "the gateway's IPv6 address": lambda s: s.frame() / IPv6(src=s.gateway[1], dst=s.victim[1]) / udp(s),
    "a free IPv4 address": lambda s: (
        s.frame() / IP(src="10.60.1.200", dst=s.victim[0]) / ICMP() / Raw(s.token)
    ),
    "an IPv4 address of the world": lambda s: s.frame() / IP(src="203.0.113.5", dst=s.victim[0]) / udp(s),
    "an IPv6 address of the world": lambda s: s.frame() / IPv6(src="2001:db8:9::5", dst=s.victim[1]) / udp(s),
    "0.0.0.0": lambda s: s.frame() / IP(src="0.0.0.0", dst=s.victim[0]) / udp(s),
    "::": lambda s: s.frame() / IPv6(src="::", dst=s.victim[1]) / udp(s),
    "127.0.0.1": lambda s: s.frame() / IP(src="127.0.0.1", dst=s.victim[0]) / udp(s),
    "::1": lambda s: s.frame() / IPv6(src="::1", dst=s.victim[1]) / udp(s),
    "another's link-local address": lambda s: (
        s.frame() / IPv6(src=link_local(s.victim_mac), dst=s.victim[1]) / ICMPv6EchoRequest(data=s.token)
    ),
    "TCP reset of another": lambda s: (
        s.frame() / IP(src=s.gateway[0], dst=s.victim[0]) / TCP(sport=80, dport=9, flags="R") / Raw(s.token)
    ),
    "ARP: another's address": lambda s: arp(s, psrc=s.gateway[0], pdst=s.victim[0]),
    "ARP: another's address, as a reply": lambda s: arp(s, psrc=s.gateway[0], pdst=s.victim[0], op="is-at"),
    "ARP: another's MAC inside": lambda s: arp(s, hwsrc=OTHER_MAC, pdst=s.victim[0]),
    "ARP: another's MAC outside": lambda s: (
        Ether(src=OTHER_MAC, dst=BROADCAST) / ARP(hwsrc=s.mac, psrc=s.own[0], pdst=s.victim[0]) / Raw(s.token)
    ),
    "NA: another's address": lambda s: s.frame(ALL_NODES) / advertisement(s, s.own[1], s.gateway[1]),
    "NA: another's address from link-local": lambda s: (
        s.frame(ALL_NODES) / advertisement(s, link_local(s.mac), s.victim[1])
    ),
    "RA": lambda s: (
        s.frame(ALL_NODES)
        / IPv6(src=link_local(s.mac), dst="ff02::1", hlim=255)
        / ICMPv6ND_RA()
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:66::", prefixlen=64)
        / Raw(s.token)
    ),
    "ND redirect": lambda s: (
        s.frame()
        / IPv6(src=link_local(s.mac), dst=s.victim[1], hlim=255)
        / ICMPv6ND_Redirect(tgt=link_local(s.mac), dst="2001:db8:1::2")
        / Raw(s.token)
    ),
    "own addresses in a VLAN tag": lambda s: (
        s.frame() / Dot1Q(vlan=5) / IP(src=s.own[0], dst=s.victim[0]) / udp(s)
    ),
    "own addresses in the VLAN tag 0": lambda s: (
        s.frame() / Dot1Q(vlan=0) / IPv6(src=s.own[1], dst=s.victim[1]) / udp(s)
    ),
    "own addresses in QinQ": lambda s: (
        s.frame() / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP(src=s.own[0], dst=s.victim[0]) / udp(s)
    ),
    "another ethertype": lambda s: Ether(src=s.mac, dst=s.victim_mac, type=0x88CC) / Raw(s.token),
    "an LLC frame": lambda s: (
        Ether(src=s.mac, dst=s.victim_mac, type=LLC_FRAME) / Raw(s.token.ljust(LLC_FRAME))
    ),
}
OWN: dict[str, Forgery] = {
    "IPv4": lambda s: s.frame() / IP(src=s.own[0], dst=s.victim[0]) / udp(s),
    "IPv6": lambda s: s.frame() / IPv6(src=s.own[1], dst=s.victim[1]) / udp(s),
    "link-local": lambda s: (
        s.frame() / IPv6(src=link_local(s.mac), dst=s.victim[1]) / ICMPv6EchoRequest(data=s.token)
    ),
    "ARP": lambda s: arp(s, pdst=s.victim[0]),
    "ARP probe": lambda s: arp(s, psrc="0.0.0.0", pdst=s.own[0]),
    "NA": lambda s: s.frame(ALL_NODES) / advertisement(s, s.own[1], s.own[1]),
    "duplicate address detection": lambda s: (
        s.frame(ALL_NODES)
        / IPv6(src="::", dst="ff02::1", hlim=255)
        / ICMPv6ND_NS(tgt=s.own[1])
        / Raw(s.token)
    ),
    "multicast listener report": lambda s: (
        s.frame("33:33:00:00:00:16")
        / IPv6(src="::", dst="ff02::16", hlim=1)
        / ICMPv6MLReport2()
        / Raw(s.token)
    ),
}

STOPPED_BY_THE_OTHER_TABLE = {"127.0.0.1", "::1", "TCP reset of another", "ND redirect"}
"""Which sees bridged frames while br_netfilter is on: loopback addresses, and what belongs to no flow."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, br_netfilter: bool) -> Iterator[Lab]:
    with (
        Topology(world()) as topology,
        running_lab(
            topology,
            tmp_path_factory.mktemp("cnmd"),
            br_netfilter=br_netfilter,
            networks=("nat", "internal", "isolated", "routed", "unguarded"),
        ) as running,
    ):
        yield running


def scene(lab: Lab, network: str) -> Scene:
    sender, victim = (lab.box(network, letter) for letter in "ba")
    own, target = ((lab.address(network, x, 4), lab.address(network, x, 6)) for x in "ba")
    gateway = lab.host.mac(lab.bridges[network])
    gateways = lab.gateway(network, 4), lab.gateway(network, 6)
    return Scene(sender.mac("eth0"), own, victim.mac("eth0"), target, gateway, gateways)


def arriving(lab: Lab, network: str, frames: dict[str, Forgery]) -> list[str]:
    """Which of the frames get to the victim or the bridge itself, each sent ahead of one that does."""
    at, sender = scene(lab, network), lab.box(network, "b")
    fence = Ether(src=at.mac, dst=BROADCAST) / IP(src=at.own[0], dst="255.255.255.255") / UDP()
    found = []
    with (
        lab.host.capture(lab.port(network, "a")) as beside,
        lab.host.capture(lab.bridges[network]) as above,
    ):
        for number, (name, forged) in enumerate(frames.items()):
            token, behind = b"frame %d of all" % number, b"behind %d of all" % number
            sender.send(forged(replace(at, token=token)), "eth0")
            sender.send(fence / Raw(behind), "eth0")
            for capture in (beside, above):
                capture.expect(match(payload=behind))
                if any(token in packet.original for packet in capture.packets):
                    found.append(name)
                    break
    return found


@pytest.mark.parametrize("network", ["nat", "internal", "routed", "isolated"])
def test_no_forged_frame_leaves_its_bridge_port(lab: Lab, network: str) -> None:
    assert arriving(lab, network, FORGED) == []


@pytest.mark.parametrize("network", ["nat", "internal", "routed", "isolated"])
def test_a_container_sends_all_it_needs_with_its_own_addresses(lab: Lab, network: str) -> None:
    assert arriving(lab, network, OWN) == list(OWN)


def test_without_the_guard_every_forged_frame_would_arrive(lab: Lab) -> None:
    stopped = set(FORGED) - set(arriving(lab, "unguarded", FORGED))

    assert stopped == (STOPPED_BY_THE_OTHER_TABLE if lab.br_netfilter else set())


def test_a_forged_source_does_not_reach_the_world(lab: Lab) -> None:
    at, sender = scene(lab, "nat"), lab.box("nat", "b")
    frame = Ether(src=at.mac, dst=at.gateway_mac)

    with lab.outside.capture("eth0") as capture:
        sender.send(frame / IP(src=at.victim[0], dst=OUTSIDE[4]) / UDP() / Raw(b"forged"), "eth0")
        sender.send(frame / IPv6(src=at.victim[1], dst=OUTSIDE[6]) / UDP() / Raw(b"forged"), "eth0")
        sender.send(frame / IP(src=at.own[0], dst=OUTSIDE[4]) / UDP() / Raw(b"honest"), "eth0")
        capture.expect_none(match(payload=b"forged"), until=match(payload=b"honest"))
