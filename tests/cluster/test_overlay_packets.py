"""Packets of overlay networks on the wire between real hosts: what they look like, and which never are there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from cnm.cluster import keys
from cnm.drivers.overlay_options import VXLAN_ID
from netns_fixtures import Host, match
from tests.cluster.boxes import Box, bridge_entries, create, records
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab

pytestmark = [pytest.mark.root, NEEDS_ETCD]

BROADCAST = "ff:ff:ff:ff:ff:ff"
MTU = 1450


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with joined_lab(members=1, clients=2) as made:
        yield made


@pytest.fixture(scope="module")
def hosts(lab: ClusterLab) -> list[ClusterHost]:
    return list(lab.h.values())


@pytest.fixture(scope="module")
def wire(lab: ClusterLab) -> Host:
    return lab.topology.hosts["switch"]


class Net:
    """A network with a box on each of some hosts."""

    def __init__(self, hosts: list[ClusterHost], name: str, count: int = 2, **options: Any) -> None:
        self.name = name
        self.id = create(hosts, name, Internal=True, EnableIPv6=True, **options)
        self.boxes = [Box(host, f"{name}-{host.name}", name) for host in hosts[:count]]
        self.vni = records(hosts[0], keys.network(self.id))[""]["vni"]

    def is_ours(self, packet: Packet) -> bool:
        """Whether a packet on the wire is of this network."""
        return VXLAN in packet and packet[VXLAN].vni == self.vni


@pytest.fixture(scope="module")
def web(hosts: list[ClusterHost]) -> Net:
    return Net(hosts, "web", Options={VXLAN_ID: "4711"})


def carried(net: Net, by: Host, act: Callable[[], object]) -> list[Packet]:
    """The network's packets that h1's end of the wire sees during `act` and until one more ping has come back."""
    one, other = net.boxes[:2]
    with by.capture("to-h1", net.is_ours) as capture:
        act()
        assert one.net.ping(other.ipv4, size=777)
        capture.expect(lambda packet: len(packet[VXLAN]) > 777)
        return [packet for packet in capture.packets if len(packet[VXLAN]) <= 777]


# What is there


def test_the_outer_header_has_the_hosts_addresses_the_vni_and_no_df(web: Net, wire: Host) -> None:
    one, other = web.boxes

    request, answer = carried(web, wire, lambda: one.ping(other.ipv4))

    assert (request[IP].src, request[IP].dst) == ("192.0.2.1", "192.0.2.2")
    assert (answer[IP].src, answer[IP].dst) == ("192.0.2.2", "192.0.2.1")
    for packet in (request, answer):
        assert packet[UDP].dport == 4789
        assert packet[UDP].sport >= 32768
        assert packet[VXLAN].flags == 0x08  # RFC 7348: the VNI is valid, nothing else
        assert packet[VXLAN].vni == web.vni == 4711
        assert packet[IP].flags == 0
        assert packet[IP].ttl == 64
    assert (request[VXLAN][Ether].src, request[VXLAN][Ether].dst) == (one.mac, other.mac)
    assert (request[VXLAN][IP].src, request[VXLAN][IP].dst) == (one.ipv4, other.ipv4)


def test_flows_differ_by_their_outer_source_port(web: Net, wire: Host) -> None:
    one, other = web.boxes

    def talk() -> None:
        with other.net.serve_tcp(80):
            for _ in range(8):
                assert one.net.connect_tcp(other.ipv4, 80, timeout=2).answered

    sent = [packet for packet in carried(web, wire, talk) if packet[IP].src == "192.0.2.1"]

    ports = {(packet[VXLAN].getlayer("TCP").sport, packet[UDP].sport) for packet in sent if "TCP" in packet}
    assert len(ports) == 8
    assert len({outer for _, outer in ports}) > 1


@pytest.mark.parametrize(("family", "header"), [(4, 28), (6, 48)])
def test_the_biggest_packet_fills_the_underlay_and_a_bigger_one_is_refused(
    web: Net, wire: Host, family: int, header: int
) -> None:
    one, other = web.boxes
    ping = ["ping", "-c1", "-W2", "-M", "do", "-s"]

    with wire.capture("to-h1", web.is_ours) as capture:
        full = one.net.run([*ping, str(MTU - header), other.address(family)], check=False)
        bigger = one.net.run([*ping, str(MTU + 1 - header), other.address(family)], check=False)

        assert (full.returncode, bigger.returncode) == (0, 1)
        assert [len(packet[IP]) for packet in capture.packets] == [1500, 1500]
        assert all(packet[IP].flags == 0 and packet[IP].frag == 0 for packet in capture.packets)
    assert "message too long, mtu" in bigger.stdout + bigger.stderr


def test_tcp_agrees_on_segments_that_fit(web: Net, wire: Host) -> None:
    one, other = web.boxes

    def talk() -> None:
        with other.net.serve_tcp(81):
            assert one.net.connect_tcp(other.ipv4, 81, timeout=2).answered

    sizes = {
        dict(packet["TCP"].options)["MSS"]
        for packet in carried(web, wire, talk)
        if "TCP" in packet and "S" in packet["TCP"].flags
    }
    assert sizes == {MTU - 40}


# What is not there


def test_who_has_what_is_answered_on_the_spot(web: Net, wire: Host) -> None:
    one, other = web.boxes

    def ask() -> None:
        one.net.run(["ip", "neigh", "flush", "dev", "eth0"])
        with one.net.capture("eth0") as own:
            one.net.send(Ether(dst=BROADCAST) / ARP(pdst=other.ipv4), "eth0")
            answer = own.expect(lambda packet: ARP in packet and packet[ARP].op == 2)
            assert (answer[ARP].psrc, answer[ARP].hwsrc) == (other.ipv4, other.mac)
        assert one.ping(other.ipv6)

    sent = carried(web, wire, ask)

    assert [packet for packet in sent if ARP in packet or "ICMPv6ND_NS" in packet] == []


def broadcasts(box: Box) -> list[Packet]:
    """Frames for all, for some, and for nobody who is known."""
    every, echo = Ether(dst=BROADCAST), IP(src=box.ipv4, dst="255.255.255.255") / ICMP()
    subnet = box.ipv4.rpartition(".")[0]
    return [
        every / echo,
        Ether(dst="01:00:5e:00:00:fb") / IP(src=box.ipv4, dst="224.0.0.251") / UDP(dport=5353) / Raw(b"mdns"),
        Ether(dst="33:33:00:00:00:01") / IPv6(src=box.ipv6, dst="ff02::1") / UDP(dport=9) / Raw(b"all nodes"),
        Ether(dst="02:42:00:00:be:ef") / IP(src=box.ipv4, dst=f"{subnet}.250") / ICMP(),
    ]


def questions(box: Box) -> list[Packet]:
    """About addresses that nobody has, and words about one's own."""
    subnet, every = box.ipv4.rpartition(".")[0], Ether(dst=BROADCAST)
    unknown = box.ipv6.rpartition(":")[0] + ":beef"
    return [
        every / ARP(pdst=f"{subnet}.251"),
        every / ARP(op=2, psrc=box.ipv4, pdst=box.ipv4, hwdst=BROADCAST),
        Ether(dst="33:33:ff:00:be:ef")
        / IPv6(src=box.ipv6, dst="ff02::1:ff00:beef")
        / ICMPv6ND_NS(tgt=unknown),
    ]


def test_nothing_is_flooded(web: Net, wire: Host) -> None:
    one = web.boxes[0]
    frames = broadcasts(one) + questions(one)

    sent = carried(web, wire, lambda: [one.net.send(frame, "eth0") for frame in frames])

    assert sent == []


def test_multicasts_go_to_the_hosts_of_a_network_that_wants_them(
    hosts: list[ClusterHost], wire: Host
) -> None:
    loud = Net(hosts, "loud", Options={"cnm.multicast": "true"})
    one, other = loud.boxes
    heard = [match("ip", dst="255.255.255.255"), match("udp", dport=5353), match("udp", dport=9)]

    def speak() -> None:
        with other.net.capture("eth0") as there:
            for frame in broadcasts(one) + questions(one):
                one.net.send(frame, "eth0")
            for each in heard:
                there.expect(each)

    eventually(lambda: flooded_to(one, loud) == ["192.0.2.2"])
    sent = carried(loud, wire, speak)

    sent = [packet for packet in sent if packet[IP].src == "192.0.2.1"]
    assert {packet[IP].dst for packet in sent} == {"192.0.2.2"}  # h3 has nobody in it
    assert [packet for packet in sent if ARP in packet or "ICMPv6ND_NS" in packet] == []
    Box(hosts[2], "loud-h3", "loud")
    eventually(lambda: flooded_to(one, loud) == ["192.0.2.2", "192.0.2.3"])


def flooded_to(box: Box, net: Net) -> list[str]:
    entries = bridge_entries(box.host, net.id)
    return sorted(each["dst"] for each in entries if each["mac"] == "00:00:00:00:00:00" and "dst" in each)


def test_a_segment_says_nothing_by_itself(hosts: list[ClusterHost], wire: Host) -> None:
    """No router solicitations, listener reports or addresses of its own."""
    with wire.capture("to-h1", lambda packet: VXLAN in packet) as capture:
        quiet = Net(hosts, "quiet")
        assert quiet.boxes[0].ping(quiet.boxes[1].ipv4)

        capture.expect(lambda packet: quiet.is_ours(packet) and ICMP in packet)
        assert [packet for packet in capture.packets if quiet.is_ours(packet) and IPv6 in packet] == []


# What comes from the wire


def forged(net: Net, source: str, **inner: Any) -> Packet:
    """A broadcast of the network to h1, from `source`, as whoever is on the wire can send it."""
    frame = Ether(**({"src": "02:42:66:66:66:66", "dst": BROADCAST} | inner)) / IP(
        src=net.boxes[1].ipv4, dst=net.boxes[0].ipv4
    )
    return (
        IP(src=source, dst="192.0.2.1")
        / UDP(sport=40000, dport=4789)
        / VXLAN(flags=0x08, vni=net.vni)
        / frame
        / UDP(sport=9, dport=9)
    )


def inject(wire: Host, lab: ClusterLab, packet: Packet) -> None:
    """Through the switch's port of h1, as if the switch had forwarded it."""
    wire.send(Ether(src="02:66:66:66:66:66", dst=lab.h[1].net.mac("eth0")) / packet, "to-h1")


def test_datagrams_of_others_than_the_clusters_hosts_are_dropped(
    lab: ClusterLab, web: Net, wire: Host
) -> None:
    one = web.boxes[0]
    with one.net.capture("eth0", match("udp", dport=9)) as heard:
        for stranger in ("192.0.2.77", "203.0.113.9"):
            inject(wire, lab, forged(web, stranger) / Raw(b"stranger"))
        inject(wire, lab, forged(web, "192.0.2.2") / Raw(b"host"))

        heard.expect_none(match(payload=b"stranger"), until=match(payload=b"host"))


def test_nothing_is_learnt_from_packets(lab: ClusterLab, web: Net, wire: Host) -> None:
    one, other = web.boxes
    before = bridge_entries(one.host, web.id)
    with one.net.capture("eth0") as heard:
        inject(wire, lab, forged(web, "192.0.2.3") / Raw(b"unknown MAC"))
        inject(wire, lab, forged(web, "192.0.2.3", src=other.mac) / Raw(b"somebody's MAC"))
        heard.expect(match(payload=b"somebody's MAC"))

    assert bridge_entries(one.host, web.id) == before
    assert one.ping(other.ipv4)


def test_a_network_that_a_host_has_no_part_in_comes_to_nobody_there(
    lab: ClusterLab, hosts: list[ClusterHost], web: Net, wire: Host
) -> None:
    other = Net(hosts, "elsewhere", count=1)
    packet = forged(web, "192.0.2.2") / Raw(b"VNI of nobody")
    packet[VXLAN].vni = 99
    with web.boxes[0].net.capture("eth0") as one, other.boxes[0].net.capture("eth0") as two:
        inject(wire, lab, packet)
        inject(wire, lab, forged(web, "192.0.2.2") / Raw(b"its own"))

        one.expect_none(match(payload=b"VNI of nobody"), until=match(payload=b"its own"))
        two.expect_none(match("udp", dport=9), timeout=0.05)


# An endpoint that moves


def test_an_address_that_moves_to_another_host_is_followed_at_once(hosts: list[ClusterHost]) -> None:
    net = Net(hosts, "moving")
    watcher, mover = net.boxes
    assert watcher.ping(mover.ipv4)
    there = {"IPv4Address": mover.ipv4, "IPv6Address": mover.ipv6}
    mover.remove()

    with watcher.net.capture("eth0", match("arp")) as heard:
        moved = Box(hosts[2], "moved", "moving", IPAMConfig=there, MacAddress="02:42:00:00:77:77")
        told = heard.expect(
            lambda packet: packet[ARP].psrc == mover.ipv4 and packet[ARP].hwsrc == moved.mac, 5
        )

    assert (told[ARP].op, told[ARP].hwdst) == (2, moved.mac)  # else Linux takes it for no gratuitous one
    assert told.direction != socket.PACKET_OUTGOING
    assert (moved.ipv4, moved.ipv6) == (mover.ipv4, mover.ipv6)
    eventually(lambda: neighbour_at(watcher, mover.ipv4) == moved.mac, 5)
    assert watcher.ping(moved.ipv4)
    assert watcher.ping(moved.ipv6)
    ends = {entry["dst"] for entry in bridge_entries(hosts[0], net.id) if "dst" in entry}
    assert ends == {"192.0.2.3"}


def neighbour_at(box: Box, address: str) -> str:
    line = box.net.run(["ip", "neigh", "show", address, "dev", "eth0"]).stdout.split()
    return line[line.index("lladdr") + 1] if "lladdr" in line else ""
