"""What `match` says of packets, on packets as a capture would have read them."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from netns_fixtures import match

MACS: dict[str, Any] = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
V4: dict[str, Any] = {"src": "192.0.2.1", "dst": "192.0.2.2"}
V6: dict[str, Any] = {"src": "2001:db8::1", "dst": "2001:db8::2"}


def read(packet: Packet) -> Packet:
    return Ether(bytes(Ether(**MACS) / packet))


TCP4 = read(IP(**V4) / TCP(sport=1000, dport=80) / b"hello")
UDP6 = read(IPv6(**V6) / UDP(sport=2000, dport=53))
TAGGED = read(Dot1Q(vlan=7) / IP(**V4) / ICMP())
WHO_HAS = read(ARP(psrc="192.0.2.1", pdst="192.0.2.2", hwsrc=MACS["src"]))
UNREACHABLE = read(IP(src="192.0.2.9", dst="192.0.2.1") / ICMP(type=3, code=3) / IP(**V4) / TCP(dport=80))


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (TCP4, {"proto": "tcp", "src": "192.0.2.1", "dst": "192.0.2.2", "sport": 1000, "dport": 80}),
        (TCP4, {"proto": "ip", "payload": b"ell"}),
        (TCP4, {"mac_src": "02:00:00:00:00:01", "mac_dst": "02:00:00:00:00:02"}),
        (UDP6, {"proto": "udp", "src": "2001:0db8:0::1", "dport": 53}),
        (UDP6, {"proto": "ip6"}),
        (read(IPv6(**V6) / ICMPv6EchoRequest()), {"proto": "icmp6"}),
        (TAGGED, {"proto": "icmp", "vlan": 7}),
        (WHO_HAS, {"proto": "arp", "src": "192.0.2.1", "dst": "192.0.2.2"}),
        (UNREACHABLE, {"proto": "icmp", "src": "192.0.2.9"}),
        (TCP4, {}),
    ],
)
def test_a_packet_with_every_given_value_fits(packet: Packet, wanted: dict[str, Any]) -> None:
    assert match(**wanted)(packet)


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (TCP4, {"proto": "udp"}),
        (TCP4, {"proto": "tcp", "dst": "192.0.2.1"}),
        (TCP4, {"dport": 81}),
        (TCP4, {"vlan": 7}),
        (TCP4, {"src": "2001:db8::1"}),
        (TCP4, {"payload": b"bye"}),
        (TCP4, {"mac_dst": "02:00:00:00:00:01"}),
        (WHO_HAS, {"proto": "ip"}),
        (WHO_HAS, {"sport": 0}),
        (UNREACHABLE, {"proto": "tcp"}),
        (UNREACHABLE, {"dport": 80}),
    ],
)
def test_a_packet_with_another_value_does_not_fit(packet: Packet, wanted: dict[str, Any]) -> None:
    assert not match(**wanted)(packet)


def test_a_match_tells_in_words_what_it_is_for() -> None:
    assert str(match("tcp", src="192.0.2.1", dport=80)) == "proto 'tcp', src '192.0.2.1', dport 80"
    assert str(match()) == "any packet"


def test_an_unknown_protocol_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match='unknown protocol "sctp"; known are arp, ip'):
        match("sctp")
