"""What a sandbox's interfaces are on the wire: MTU, segment size, addresses, MACs, and which one leads out."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from netns_fixtures import Host, Topology, match
from tests.packet.lab import FAMILIES, HOST, NETWORKS, OPEN, OUTSIDE, PASS_SECONDS, Lab, running_lab, world

UPLINK_MTU = 1400


@pytest.fixture(scope="module")
def br_netfilter() -> bool:
    return False


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    description = world()
    description["links"][0]["mtu"] = UPLINK_MTU
    with (
        Topology(description) as topology,
        running_lab(
            topology,
            tmp_path_factory.mktemp("cnmd"),
            br_netfilter=False,
            networks=("nat", "nat-2", "internal", "nat-ipv4-only", "nat-ipv6-only"),
        ) as running,
    ):
        yield running


def mtu(host: Host, interface: str) -> int:
    with host.netlink() as netlink:
        (index,) = netlink.link_lookup(ifname=interface)
        return int(netlink.get_links(index)[0].get("mtu"))


def connect(lab: Lab, network: str, sandbox: str, **config: Any) -> dict[str, Any]:
    endpoint: dict[str, Any] = lab.daemon.connect(network, sandbox, **config)
    return endpoint


def leave(lab: Lab, network: str, sandbox: str) -> None:
    lab.daemon.ask("POST", f"/networks/{network}/disconnect", {"Container": sandbox})


def tcp_flags(flags: str) -> Callable[[Packet], bool]:
    return lambda packet: bool(packet.haslayer(TCP)) and packet[TCP].flags == flags


# MTU


def test_a_network_has_the_uplinks_mtu(lab: Lab) -> None:
    assert mtu(lab.host, lab.bridges["nat"]) == UPLINK_MTU
    assert mtu(lab.host, lab.port("nat", "a")) == UPLINK_MTU
    assert mtu(lab.box("nat", "a"), "eth0") == UPLINK_MTU


@FAMILIES
def test_the_largest_packet_passes_whole_and_a_larger_one_in_pieces(lab: Lab, version: int) -> None:
    box, headers = lab.box("nat", "b"), 28 if version == 4 else 48

    for size in (UPLINK_MTU - headers, UPLINK_MTU - headers + 1, 4000):
        assert box.ping(OUTSIDE[version], size=size, timeout=PASS_SECONDS)


@FAMILIES
def test_the_segment_size_is_clamped_to_a_narrower_path(lab: Lab, version: int) -> None:
    wanted = 1300 - (40 if version == 4 else 60)
    lab.host.run(["ip", "link", "set", "up1", "mtu", "1300"])
    try:
        with lab.outside.capture("eth0") as outgoing:
            assert lab.box("nat", "b").connect_tcp(OUTSIDE[version], OPEN, timeout=PASS_SECONDS).answered
            syn = outgoing.expect(tcp_flags("S"))
        with lab.outside.capture("eth0") as incoming:
            published = NETWORKS["nat"].any_port
            assert lab.outside.connect_tcp(HOST[version], published, timeout=PASS_SECONDS).answered
            answer = incoming.expect(tcp_flags("SA"))
    finally:
        lab.host.run(["ip", "link", "set", "up1", "mtu", str(UPLINK_MTU)])

    assert dict(syn[TCP].options)["MSS"] == wanted
    assert dict(answer[TCP].options)["MSS"] == wanted


def test_a_given_mtu_goes_before_the_uplinks(lab: Lab) -> None:
    lab.daemon.create_network("narrow", Options={"com.docker.network.driver.mtu": "1280"})
    box = lab.sandbox("narrow-a")
    connect(lab, "narrow", "narrow-a")

    assert mtu(box, "eth0") == 1280


# Addresses and MACs


@FAMILIES
def test_a_given_address_and_mac_are_used_on_the_wire(lab: Lab, version: int) -> None:
    given = {4: "10.60.1.77", 6: "fd00:60:1::77"}
    name, mac = f"given-{version}", f"02:00:00:00:77:0{version}"
    box = lab.sandbox(name)
    addresses = {f"IPv{v}Address": given[v] for v in (4, 6)}

    connect(lab, "nat", name, IPAMConfig=addresses, MacAddress=mac)
    with lab.host.capture(lab.port("nat", "a")) as capture:
        outcome = box.connect_tcp(lab.address("nat", "a", version), OPEN, timeout=PASS_SECONDS)
        packet = capture.expect(match("tcp", src=given[version], dport=OPEN))
    leave(lab, "nat", name)

    assert outcome.seen is not None
    assert outcome.seen[0] == given[version]
    assert packet.src == mac


def test_an_interface_has_the_name_that_was_asked_for(lab: Lab) -> None:
    box = lab.sandbox("named")
    connect(lab, "nat", "named", IfName="lan7")

    assert box.address("lan7").startswith("10.60.1.")


def test_arp_for_a_sandbox_is_answered_by_itself_alone(lab: Lab) -> None:
    with lab.host.capture(lab.bridges["nat"]) as capture:
        lab.box("nat", "b").run(["ip", "neigh", "flush", "dev", "eth0"])
        assert lab.box("nat", "b").ping(lab.address("nat", "a", 4), timeout=PASS_SECONDS)
        answers = [p for p in capture.packets if p.haslayer(ARP) and p[ARP].op == 2]

    assert {p[ARP].hwsrc for p in answers if p[ARP].psrc == lab.address("nat", "a", 4)} <= {
        lab.box("nat", "a").mac("eth0")
    }


# Several endpoints


def way_out(lab: Lab, box: Host, version: int) -> str:
    """The address of the box that a flow to the world begins with, "" where there is no way."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with box.socket(family, socket.SOCK_DGRAM) as probe:
        if failure := probe.connect_ex((OUTSIDE[version], 9)):
            assert failure == errno.ENETUNREACH
            return ""
        return str(probe.getsockname()[0])


def both_ways(lab: Lab, box: Host) -> tuple[str, str]:
    return way_out(lab, box, 4), way_out(lab, box, 6)


def addresses(endpoint: dict[str, Any]) -> tuple[str, str]:
    ipv4, ipv6 = (str(endpoint[f"IPv{version}Address"]).partition("/")[0] for version in (4, 6))
    return ipv4, ipv6


def test_an_internal_network_leads_nowhere(lab: Lab) -> None:
    assert both_ways(lab, lab.box("internal", "a")) == ("", "")


def test_the_default_route_goes_by_the_network_that_is_not_internal(lab: Lab) -> None:
    box = lab.sandbox("two")
    connect(lab, "internal", "two")
    assert both_ways(lab, box) == ("", "")

    outer = connect(lab, "nat-2", "two")
    assert both_ways(lab, box) == addresses(outer)

    leave(lab, "nat-2", "two")
    assert both_ways(lab, box) == ("", "")


def test_the_highest_gateway_priority_carries_the_default_route(lab: Lab) -> None:
    box = lab.sandbox("prior")
    first = connect(lab, "nat", "prior")
    assert both_ways(lab, box) == addresses(first)

    second = connect(lab, "nat-2", "prior", GwPriority=10)
    assert both_ways(lab, box) == addresses(second)
    outcome = box.connect_tcp(OUTSIDE[4], OPEN, timeout=PASS_SECONDS)
    assert outcome.seen is not None
    assert outcome.seen[0] == HOST[4]

    leave(lab, "nat-2", "prior")
    assert both_ways(lab, box) == addresses(first)


def test_each_family_leaves_by_a_network_that_has_it(lab: Lab) -> None:
    box = lab.sandbox("apart")
    fourth = connect(lab, "nat-ipv4-only", "apart")
    sixth = connect(lab, "nat-ipv6-only", "apart")

    assert both_ways(lab, box) == (addresses(fourth)[0], addresses(sixth)[1])
    for version in (4, 6):
        assert box.connect_tcp(OUTSIDE[version], OPEN, timeout=PASS_SECONDS).answered


def test_every_network_of_a_sandbox_is_reached_directly(lab: Lab) -> None:
    box = lab.sandbox("member")
    for network in ("nat", "nat-2", "internal"):
        connect(lab, network, "member")

    for network in ("nat", "nat-2", "internal"):
        for version in (4, 6):
            outcome = box.connect_tcp(lab.address(network, "a", version), OPEN, timeout=PASS_SECONDS)
            assert outcome.payload == f"{network}-a".encode()
            assert outcome.seen == outcome.local


def test_a_sandbox_of_two_networks_is_no_bridge_between_them(lab: Lab) -> None:
    """Nobody forwards inside it: its namespace is no router."""
    box = lab.sandbox("between")
    here = connect(lab, "internal", "between")
    connect(lab, "nat", "between")
    prober = lab.box("internal", "b")
    prober.run(["ip", "route", "add", "10.60.1.0/24", "via", addresses(here)[0]])

    assert not prober.ping(lab.address("nat", "a", 4), timeout=0.3)
    prober.run(["ip", "route", "del", "10.60.1.0/24"])
    assert box.ping(lab.address("nat", "a", 4), timeout=PASS_SECONDS)
