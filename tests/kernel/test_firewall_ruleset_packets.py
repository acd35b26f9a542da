"""The constant rules against real packets, both families, with br_netfilter off and on; no daemon involved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Padding

from cnm.firewall import ruleset, sets
from cnm.firewall.elements import host_elements
from cnm.kernel.state import ElementSet, FirewallElement, Group
from netns_fixtures import Host, Outcome, Topology, match, probe_all
from tests.support.firewall_lab import (
    HOST_PORTS,
    LOOPBACK_PORT,
    MODES,
    FirewallLab,
    bridge,
    bridge_port,
    container_address,
    description,
    far_address,
    gateway_address,
    host_address,
)

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
NETWORKS = pytest.mark.parametrize("network", list(MODES))
Probe = Callable[[], Outcome]

_FLOW = 0xBAD
"""IPv6 flow label by which a forged packet is known again."""


@pytest.fixture(scope="module", params=[False, True], ids=["br_netfilter off", "br_netfilter on"])
def lab(request: pytest.FixtureRequest, make_module_topology: Callable[..., Topology]) -> FirewallLab:
    return FirewallLab(make_module_topology(description()), request.param)


def answered(host: Host, address: str, port: int, *, timeout: float = 0.4) -> list[bool]:
    """By TCP and by UDP."""
    probes = [partial(probe, address, port, timeout=timeout) for probe in (host.connect_tcp, host.send_udp)]
    return [outcome.answered for outcome in probe_all(probes)]


# What must pass and what must not


@FAMILIES
@NETWORKS
def test_a_sibling_without_icc_is_not_reached_at_its_own_address(
    lab: FirewallLab, network: str, version: int
) -> None:
    sibling = lab.container(network, "b")

    assert answered(sibling, container_address(network, "a", version), 80) == [False, False]
    assert answered(sibling, container_address(network, "a", version), 81) == [False, False]


@FAMILIES
@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("network", list(HOST_PORTS))
def test_a_published_port_is_reached_through_the_host_from_its_own_network(
    lab: FirewallLab, network: str, letter: str, version: int
) -> None:
    assert answered(lab.container(network, letter), host_address(version), HOST_PORTS[network]) == [
        True,
        True,
    ]


@FAMILIES
@pytest.mark.parametrize("network", list(HOST_PORTS))
def test_a_published_port_is_reached_from_outside_with_the_source_kept(
    lab: FirewallLab, network: str, version: int
) -> None:
    near = lab.topology.hosts["near"]

    outcome = near.connect_tcp(host_address(version), HOST_PORTS[network])

    assert outcome.answered
    assert outcome.seen == outcome.local


@FAMILIES
def test_a_container_of_another_network_reaches_only_what_the_mode_allows(
    lab: FirewallLab, version: int
) -> None:
    stranger = lab.container("other", "b")

    targets = [(network, port) for network in MODES if network != "other" for port in (80, 81)]
    outcomes = probe_all(
        partial(stranger.connect_tcp, container_address(network, "a", version), port)
        for network, port in targets
    )
    reached = {target for target, outcome in zip(targets, outcomes, strict=True) if outcome.answered}

    assert reached == {("routed", 80), ("open", 80), ("open", 81)}


@FAMILIES
def test_containers_leave_with_the_address_that_their_mode_gives(lab: FirewallLab, version: int) -> None:
    outcomes = probe_all(partial(lab.container(n, "b").connect_tcp, far_address(version), 80) for n in MODES)
    seen = {n: outcome.seen and outcome.seen[0] for n, outcome in zip(MODES, outcomes, strict=True)}

    uplink = "198.51.100.1" if version == 4 else "2001:db8:2::1"
    assert seen == {
        "nat": uplink,
        "other": uplink,
        "routed": container_address("routed", "b", version),
        "open": uplink,
        "internal": None,
    }


@FAMILIES
def test_loopback_addresses_of_the_host_reach_published_ports(lab: FirewallLab, version: int) -> None:
    loopback = "127.0.0.1" if version == 4 else "::1"
    translated = version == 4 or not lab.br_netfilter

    for port in (HOST_PORTS["nat"], LOOPBACK_PORT):
        assert answered(lab.host, loopback, port) == [translated, translated]


def test_ipv6_loopback_is_left_to_a_socket_of_the_host_under_br_netfilter(lab: FirewallLab) -> None:
    server = lab.host.serve_tcp(HOST_PORTS["nat"], "::1")

    outcome = lab.host.connect_tcp("::1", HOST_PORTS["nat"])
    server.close()

    assert outcome.payload == (b"host" if lab.br_netfilter else b"nat-a")


@FAMILIES
def test_the_host_is_no_router_for_others_unless_it_was_one_before(lab: FirewallLab, version: int) -> None:
    near = lab.topology.hosts["near"]
    routing = host_elements(routing_ipv4=version == 4, routing_ipv6=version == 6, bridge_nf_ipv6=True)

    assert answered(near, far_address(version), 80) == [False, False]
    lab.nft.apply(routing, ())
    passes = answered(near, far_address(version), 80)
    lab.nft.apply((), routing)
    assert passes == [True, True]


@pytest.mark.parametrize("address", ["172.30.0.2", "fd00:30::2"])
def test_frames_on_a_bridge_of_somebody_else_pass(lab: FirewallLab, address: str) -> None:
    assert answered(lab.topology.hosts["guest1"], address, 80) == [True, True]


# What nobody may send


def ip_header(version: int, src: str, dst: str) -> Packet:
    return IP(src=src, dst=dst) if version == 4 else IPv6(src=src, dst=dst)


@FAMILIES
@pytest.mark.parametrize("sender", ["near", "nat-b", "routed-b", "open-b", "internal-b"])
def test_a_port_published_on_loopback_is_not_reached_by_frames_to_a_loopback_address(
    lab: FirewallLab, sender: str, version: int
) -> None:
    host = lab.topology.hosts[sender]
    interface = "up1" if sender == "near" else bridge(sender.removesuffix("-b"))
    own = host.address("eth0", version)
    loopback = "127.0.0.1" if version == 4 else "::1"
    frame = Ether(dst=lab.host.mac(interface)) / ip_header(version, own, loopback)

    with lab.container("nat", "a").capture("eth0") as capture:
        host.send(frame / UDP(sport=4000, dport=LOOPBACK_PORT), "eth0")
        host.send(frame / TCP(sport=4000, dport=LOOPBACK_PORT, flags="S"), "eth0")
        lab.host.connect_tcp(container_address("nat", "a", 4), 80)
        capture.expect_none(
            lambda seen: seen.haslayer(UDP) or (seen.haslayer(TCP) and seen[TCP].sport == 4000),
            until=match("tcp", dst=container_address("nat", "a", 4), dport=80),
        )


@pytest.mark.parametrize("destination", ["255.255.255.255", "224.0.0.9", "203.0.113.7", "10.88.4.255"])
@pytest.mark.parametrize("network", ["nat", "routed", "open", "internal"])
def test_a_sibling_without_icc_is_not_reached_by_frames_with_a_strange_destination(
    lab: FirewallLab, network: str, destination: str
) -> None:
    sender, receiver = lab.container(network, "b"), lab.container(network, "a")
    frame = Ether(dst=receiver.mac("eth0")) / IP(src=container_address(network, "b", 4), dst=destination)

    with lab.host.capture(bridge_port(network, "a")) as capture:
        sender.send(frame / UDP(sport=5000, dport=81), "eth0")
        sender.send(frame / ICMP(), "eth0")
        lab.host.connect_tcp(container_address(network, "a", 4), 80)
        capture.expect_none(
            match("ip", src=container_address(network, "b", 4)),
            until=match("tcp", dst=container_address(network, "a", 4), dport=80),
        )


@pytest.mark.parametrize(
    ("port_set", "version"),
    [(sets.PORTS, 4), (sets.PORTS, 6), (sets.GUARD4, 4), (sets.GUARD6, 6)],
    ids=["ports ipv4", "ports ipv6", "guard4", "guard6"],
)
def test_a_bridge_port_without_its_elements_is_shut(
    lab: FirewallLab, port_set: ElementSet, version: int
) -> None:
    port = bridge_port("nat", "b")
    going = [e for e in lab.elements if e.set == port_set and e.key[0] == port]

    with lab.without(*going):
        shut = answered(lab.container("nat", "b"), host_address(version), HOST_PORTS["nat"])

    assert shut == [False, False]
    assert answered(lab.container("nat", "b"), host_address(version), HOST_PORTS["nat"]) == [True, True]


def forged_frames(sender: Host, host: Host) -> dict[str, Packet]:
    """What a container of network nat may not send, by what is forged; `is_forged` knows them again."""
    own, own6, mac = sender.address("eth0"), sender.address("eth0", 6), sender.mac("eth0")
    gateway, gateway6 = gateway_address("nat", 4), gateway_address("nat", 6)
    frame = Ether(src=mac, dst=host.mac(bridge("nat")))
    data = UDP(sport=7, dport=7) / b"forged"
    na = ICMPv6ND_NA(R=0, O=1, tgt=gateway6) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    return {
        "MAC": Ether(src="02:00:00:00:00:99", dst=frame.dst) / IP(src=own, dst=gateway) / data,
        "IPv4 address": frame / IP(src="10.88.1.77", dst=gateway) / data,
        "IPv4 address of the gateway": frame / IP(src=gateway, dst=gateway) / data,
        "IPv4 address 0.0.0.0": frame / IP(src="0.0.0.0", dst=gateway) / data,
        "IPv6 address": frame / IPv6(src="fd00:88:1::77", dst=gateway6) / data,
        "IPv6 address ::": frame / IPv6(src="::", dst=gateway6) / data,
        "ARP answer": frame / ARP(op=2, hwsrc=mac, psrc=gateway, pdst=own) / Padding(b"forged"),
        "neighbour advertisement": frame / IPv6(src=own6, dst="ff02::1", hlim=255, fl=_FLOW) / na,
        "router advertisement": frame / IPv6(src=own6, dst="ff02::1", hlim=255, fl=_FLOW) / ICMPv6ND_RA(),
        "VLAN tag": frame / Dot1Q(vlan=5) / IP(src=own, dst=gateway) / data,
        "ethertype": Ether(src=mac, dst=frame.dst, type=0x88B5) / b"forged",
    }


def test_nothing_forged_enters_the_bridge(lab: FirewallLab) -> None:
    sender = lab.container("nat", "b")

    passed = [
        what for what, frame in forged_frames(sender, lab.host).items() if arrives(sender, frame, lab.host)
    ]

    assert passed == []


def test_everything_forged_enters_the_bridge_with_the_guard_off(lab: FirewallLab) -> None:
    sender = lab.container("nat", "b")
    (guarded,) = [e for e in lab.elements if e.set == sets.PORTS and e.key == (bridge_port("nat", "b"),)]
    frames = forged_frames(sender, lab.host)

    lab.nft.apply([FirewallElement(sets.PORTS, guarded.key, ("accept",))], ())
    passed = [what for what, frame in frames.items() if arrives(sender, frame, lab.host)]
    lab.nft.apply([guarded], ())

    assert passed == list(frames)


def is_forged(packet: Packet) -> bool:
    return b"forged" in bytes(packet) or (packet.haslayer(IPv6) and packet[IPv6].fl == _FLOW)


def arrives(sender: Host, packet: Packet, host: Host) -> bool:
    """Whether it passes the guard onto the bridge, before a packet that always does."""
    with host.capture(bridge("nat")) as capture:
        sender.send(packet, "eth0")
        sender.send_udp(gateway_address("nat", 4), 9, timeout=0.05)
        capture.expect(match("udp", src=sender.address("eth0"), dport=9))
        return any(is_forged(seen) for seen in capture.packets)


# Failing closed


def closed_probes(lab: FirewallLab) -> dict[str, Probe]:
    """Every way that the full ruleset closes, by what it is."""
    probes: dict[str, Probe] = {}
    sources = ["near", *(f"{network}-b" for network in MODES)]
    for version in (4, 6):
        for source in sources:
            host = lab.topology.hosts[source]
            targets = [
                (f"{n}-a", container_address(n, "a", version), port) for n in MODES for port in (80, 81)
            ]
            targets += [
                ("host", host_address(version), port) for port in (*HOST_PORTS.values(), LOOPBACK_PORT)
            ]
            targets += [("far", far_address(version), 80)]
            for name, address, port in targets:
                probes[f"{source} to {name} port {port} by IPv{version}"] = partial(
                    host.connect_tcp, address, port, timeout=0.15
                )
    outcomes = probe_all(probes.values())
    return {
        name: probe
        for (name, probe), outcome in zip(probes.items(), outcomes, strict=True)
        if not outcome.answered
    }


def opened(probes: dict[str, Probe]) -> list[str]:
    outcomes = probe_all(probes.values(), workers=len(probes))
    return [name for name, outcome in zip(probes, outcomes, strict=True) if outcome.answered]


@pytest.fixture(scope="module")
def closed(lab: FirewallLab) -> dict[str, Probe]:
    return closed_probes(lab)


def _representatives(lab: FirewallLab, element_set: ElementSet) -> list[FirewallElement]:
    """All of a set; of bridge ports those of one network, and TCP stands for both protocols."""
    return [
        element
        for element in lab.elements
        if element.set == element_set
        and (element_set.family == "inet" or str(element.key[0]).startswith("cv-nat-"))
        and "udp" not in element.key
    ]


@pytest.mark.parametrize("element_set", sets.ELEMENT_SETS, ids=lambda each: each.name)
def test_nothing_opens_without_an_element_of(
    lab: FirewallLab, closed: dict[str, Probe], element_set: ElementSet
) -> None:
    found: dict[str, list[str]] = {}
    for element in _representatives(lab, element_set):
        with lab.without(element):
            if ways := opened(closed):
                found[f"{element.key}"] = ways

    assert found == {}


def test_the_probes_notice_what_passes_without_a_closing_drop(
    lab: FirewallLab, closed: dict[str, Probe]
) -> None:
    full = ruleset.start_text(lab.elements)
    routing = host_elements(routing_ipv4=True, routing_ipv6=True, bridge_nf_ipv6=True)
    going = [e for e in lab.elements if e.set == sets.TO and e.key == ("ipv4", bridge("nat"))]

    lab.nft.run(full.replace(f"    oifgroup {int(Group.BRIDGE)} counter drop\n", ""))
    lab.nft.apply(routing, ())
    with lab.without(*going):
        ways = opened(closed)
    lab.nft.start(full)

    assert "near to nat-a port 81 by IPv4" in ways


# Path MTU and shorter ways


@FAMILIES
def test_the_segment_size_is_clamped_to_the_path(lab: FirewallLab, version: int) -> None:
    near, address = lab.topology.hosts["near"], "192.0.2.2" if version == 4 else "2001:db8:1::2"
    lab.host.run(["ip", "link", "set", "up1", "mtu", "1300"])

    with near.capture("eth0") as capture:
        lab.container("nat", "b").connect_tcp(address, 80)
        syn = capture.expect(
            lambda seen: seen.haslayer(TCP) and seen[TCP].flags == "S" and seen[TCP].dport == 80
        )
    lab.host.run(["ip", "link", "set", "up1", "mtu", "1500"])

    assert dict(syn[TCP].options)["MSS"] == 1300 - (40 if version == 4 else 60)


@FAMILIES
def test_a_container_is_told_of_no_shorter_way_to_itself(lab: FirewallLab, version: int) -> None:
    container = lab.container("nat", "a")

    with container.capture("eth0") as capture:
        container.connect_tcp(gateway_address("nat", version), HOST_PORTS["nat"])

    assert not any(is_redirect(packet) for packet in capture.packets)


def is_redirect(packet: Packet) -> bool:
    return packet.haslayer(ICMPv6ND_Redirect) or (packet.haslayer(ICMP) and packet[ICMP].type == 5)
