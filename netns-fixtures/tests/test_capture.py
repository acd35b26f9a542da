"""What is captured and sent at an interface, and what an assertion says when it fails."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from netns_fixtures import KernelRefused, Topology, match

RIGHT = "02:00:00:00:00:02"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def datagram(payload: bytes, dport: int = 9) -> Ether:
    return Ether(dst=RIGHT) / IP(dst="192.0.2.2") / UDP(sport=1000, dport=dport) / payload


def test_a_sent_packet_is_seen_at_both_ends_with_its_direction(pair: Topology) -> None:
    with pair.left.capture("eth0") as near, pair.right.capture("eth0") as far:
        pair.left.send(datagram(b"hello"), "eth0")
        left, right = near.expect(match(payload=b"hello")), far.expect(match(payload=b"hello"))

    assert (left.direction, right.direction) == (socket.PACKET_OUTGOING, socket.PACKET_HOST)
    assert (right.sniffed_on, bytes(left)) == ("eth0", bytes(right))


def test_sources_left_out_are_those_of_the_interface(pair: Topology) -> None:
    packets = [
        Ether(dst=RIGHT) / IP(dst="192.0.2.2") / ICMP(),
        Ether(dst=RIGHT) / IPv6(dst="2001:db8::2") / ICMPv6EchoRequest(),
        Ether(dst=BROADCAST) / ARP(pdst="192.0.2.2"),
    ]
    with pair.right.capture("eth0") as capture:
        for packet in packets:
            pair.left.send(packet, "eth0")
        v4 = capture.expect(match("icmp", dst="192.0.2.2"))
        v6 = capture.expect(match("ip6", dst="2001:db8::2"))
        arp = capture.expect(match("arp", dst="192.0.2.2"))

    assert {packet.src for packet in (v4, v6, arp)} == {"02:00:00:00:00:01"}
    assert (v4[IP].src, v6[IPv6].src, arp.psrc) == ("192.0.2.1", "2001:db8::1", "192.0.2.1")
    assert arp.hwsrc == "02:00:00:00:00:01"


def test_sources_that_are_given_are_sent_as_they_are(pair: Topology) -> None:
    forged = (
        Ether(src="02:00:00:00:00:66", dst=RIGHT) / IP(src="203.0.113.1", dst="192.0.2.2") / TCP(flags="S")
    )

    with pair.right.capture("eth0") as capture:
        pair.left.send(forged, "eth0")
        packet = capture.expect(match("tcp", mac_src="02:00:00:00:00:66", src="203.0.113.1"))

    assert packet[TCP].flags == "S"


def test_bytes_are_sent_unchanged(pair: Topology) -> None:
    frame = bytes.fromhex("02000000000202000000000188b5") + bytes(range(50))

    with pair.right.capture("eth0") as capture:
        pair.left.send(frame, "eth0")
        packet = capture.expect(match(payload=bytes(range(50))))

    assert bytes(packet) == frame


@pytest.mark.parametrize("tags", [Dot1Q(vlan=7), Dot1Q(vlan=7) / Dot1Q(vlan=8)])
def test_vlan_tags_are_there_although_the_kernel_takes_the_first_off(pair: Topology, tags: Dot1Q) -> None:
    with pair.right.capture("eth0") as capture:
        pair.left.send(Ether(dst=RIGHT) / tags / IP(dst="192.0.2.2") / UDP(dport=9), "eth0")
        packet = capture.expect(match("udp", vlan=7))

    assert bytes(packet)[12:14] == b"\x81\x00"
    assert packet.layers().count(Dot1Q) == len(bytes(tags)) // 4


def test_a_packet_without_a_destination_mac_is_refused(pair: Topology) -> None:
    with pytest.raises(
        ValueError, match=r"left:eth0: the packet has no destination MAC; give Ether\(dst=\.\.\.\)"
    ):
        pair.left.send(Ether() / IP(dst="192.0.2.2"), "eth0")


def test_a_packet_that_is_no_frame_is_refused(pair: Topology) -> None:
    with pytest.raises(ValueError, match="this packet with IP"):
        pair.left.send(IP(dst="192.0.2.2"), "eth0")


def test_a_frame_too_long_for_the_cable_is_refused(pair: Topology) -> None:
    with pytest.raises(KernelRefused, match="cannot send 2042 bytes on left:eth0: Message too long"):
        pair.left.send(datagram(bytes(2000)), "eth0")


@pytest.mark.parametrize("action", ["capture", "send"])
def test_an_interface_that_does_not_exist_is_named(pair: Topology, action: str) -> None:
    with pytest.raises(KernelRefused, match=f"cannot {action} on left:eth7: No such device"):
        pair.left.capture("eth7") if action == "capture" else pair.left.send(bytes(60), "eth7")


def test_a_failed_expectation_lists_what_did_pass(pair: Topology) -> None:
    with pair.right.capture("eth0", filter=match("udp")) as capture:
        pair.left.send(datagram(b"x", dport=9), "eth0")
        capture.expect(match("udp", dport=9))
        with pytest.raises(AssertionError) as failure:
            capture.expect(match("udp", dport=10), timeout=0.05)

    first, second, third = str(failure.value).splitlines()
    assert first == "a packet (proto 'udp', dport 10) did not pass right:eth0 in 0.05 s"
    assert second == "right:eth0 saw 1 packets"
    assert third.startswith(
        "  in  02:00:00:00:00:01 > 02:00:00:00:00:02  Ether / IP / UDP 192.0.2.1:1000 > 192.0.2.2"
    )


def test_a_long_list_is_cut(pair: Topology) -> None:
    with pair.right.capture("eth0", filter=match("udp")) as capture:
        for number in range(50):
            pair.left.send(datagram(b"%d" % number), "eth0")
        capture.expect(match(payload=b"49"))

    assert capture.summary().endswith("... and 10 more")


def test_a_filter_keeps_other_packets_out(pair: Topology) -> None:
    with pair.right.capture(
        "eth0", filter=lambda packet: UDP in packet and packet[UDP].dport == 1
    ) as capture:
        for port in (1, 2, 1):
            pair.left.send(datagram(b"x", dport=port), "eth0")
        pair.left.send(datagram(b"last", dport=1), "eth0")
        capture.expect(match(payload=b"last"))

    assert [packet[UDP].dport for packet in capture.packets] == [1, 1, 1]


def test_expecting_none_passes_when_the_last_allowed_packet_has_come(pair: Topology) -> None:
    with pair.right.capture("eth0") as capture:
        pair.left.send(datagram(b"allowed"), "eth0")

        capture.expect_none(match(payload=b"forbidden"), until=match(payload=b"allowed"), timeout=600)


def test_expecting_none_fails_on_a_packet_that_came_before_the_allowed_one(pair: Topology) -> None:
    with pair.right.capture("eth0") as capture:
        pair.left.send(datagram(b"forbidden"), "eth0")
        pair.left.send(datagram(b"allowed"), "eth0")

        with pytest.raises(AssertionError, match=r"payload b'forbidden'\) passed right:eth0, and should not"):
            capture.expect_none(match(payload=b"forbidden"), until=match(payload=b"allowed"))


def test_expecting_none_fails_when_the_allowed_packet_does_not_come(pair: Topology) -> None:
    capture = pair.right.capture("eth0")

    with pytest.raises(AssertionError, match=r"payload b'allowed'\), the end of the watch, did not pass"):
        capture.expect_none(match(payload=b"x"), until=match(payload=b"allowed"), timeout=0.05)


def test_expecting_none_without_an_end_watches_for_a_while(pair: Topology) -> None:
    with pair.right.capture("eth0", filter=match("udp")) as capture:
        capture.expect_none(match("udp"), timeout=0.05)
        pair.left.send(datagram(b"x"), "eth0")

        with pytest.raises(AssertionError, match="should not"):
            capture.expect_none(match("udp"), timeout=2)


def test_absence_is_not_proved_by_a_capture_that_lost_packets(
    pair: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netns_fixtures.capture._BUFFER_BYTES", 4096)
    with pair.right.capture("eth0") as capture:
        for _ in range(100):
            pair.left.send(datagram(bytes(1400)), "eth0")

        with pytest.raises(
            AssertionError, match=r"right:eth0: \d+ packets were lost, so absence is not proved"
        ):
            capture.expect_none(match("tcp"), timeout=0.05)


def test_a_closed_capture_still_tells_what_it_saw(pair: Topology) -> None:
    capture = pair.right.capture("eth0")
    pair.left.send(datagram(b"hello"), "eth0")
    capture.expect(match(payload=b"hello"))
    capture.close()

    assert capture.wait_for(match(payload=b"hello"), timeout=600) is not None
    assert capture.wait_for(match(payload=b"later"), timeout=600) is None


def test_loopback_can_be_captured(pair: Topology) -> None:
    pair.left.serve_udp(53)
    with pair.left.capture("lo") as capture:
        pair.left.send_udp("127.0.0.1", 53)

        capture.expect(match("udp", src="127.0.0.1", dport=53))


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs /dev/net/tun")
def test_an_interface_without_ethernet_headers_can_be_captured(pair: Topology) -> None:
    with pair.left.enter():
        tunnel = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(
            tunnel, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001)
        )  # TUNSETIFF, IFF_TUN | IFF_NO_PI
    pair.left.run(["ip", "link", "set", "tun0", "up"])
    pair.left.run(["ip", "route", "add", "198.51.100.0/24", "dev", "tun0"])
    with pair.left.capture("tun0") as capture:
        pair.left.send_udp("198.51.100.1", 9, timeout=0.05)
        packet = capture.expect(match("udp", dst="198.51.100.1"))
    os.close(tunnel)

    assert type(packet) is IP


def test_neither_sending_nor_capturing_uses_scapy_s_view_of_the_machine(
    pair: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scapy.config import conf

    for name in ("route", "route6", "ifaces", "neighbor"):
        monkeypatch.setitem(conf.__dict__, name, None)
    with pair.right.capture("eth0") as capture:
        pair.left.send(datagram(b"hello"), "eth0")
        pair.left.send(Ether(dst=RIGHT) / IPv6(dst="2001:db8::2") / ICMPv6EchoRequest(), "eth0")
        pair.left.send(Ether(dst=BROADCAST) / ARP(pdst="192.0.2.2"), "eth0")
        capture.expect(match("arp", dst="192.0.2.2"))

        assert "ICMPv6" in capture.summary()
