"""Nodes on one wire with real wireguard-go processes: what passes, what the wire sees, and what becomes of it all."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import scapy.layers.vxlan  # noqa: F401
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from cnm.cluster.tunnels import Tunnels
from cnm.cluster.wireguard_keys import generate_private_key
from cnm.errors import Conflict, InvalidParameter, KernelError, NotBuilt
from cnm.firewall.elements import overlay_elements
from cnm.kernel import wireguard
from cnm.kernel.diff import diff
from cnm.kernel.state import Finding
from netns_fixtures import Topology
from tests.support.packet_stream import PacketStream
from tests.support.tunnels_lab import CLUSTER, LabNode, TunnelsLab, description, eventually, running_lab
from tests.support.unpacked import lacking, program

_LACKING = lacking("wireguard-go")
pytestmark = pytest.mark.skipif(bool(_LACKING), reason=_LACKING)

VNI, PORT = 13, 4789
_WIREGUARD_PORTS = (51820, 51821)


@pytest.fixture
def lab_of(make_topology: Callable[..., Topology]) -> Iterator[Callable[..., TunnelsLab]]:
    """Makes a lab of so many nodes, all of them connected."""
    with ExitStack() as stack:

        def make(count: int, inner: int = 4, outer: int = 4) -> TunnelsLab:
            topology = make_topology(description(count))
            lab = stack.enter_context(running_lab(topology, count, inner, outer))
            for one, other in permutations(lab.nodes, 2):
                eventually(lambda one=one, other=other: one.ping(other, timeout=0.2))
            return lab

        yield make


@pytest.fixture
def two(lab_of: Callable[..., TunnelsLab]) -> tuple[LabNode, LabNode]:
    one, other = lab_of(2).nodes
    return one, other


def stream(one: LabNode, other: LabNode) -> PacketStream:
    return PacketStream(one.host, one.transport, other.host, other.transport, (one.host, other.host))


def pid(node: LabNode) -> int:
    """Of the one process of a node; 0 while there is none."""
    return next(iter(node.tunnels.processes()), 0)


# What passes


@pytest.mark.parametrize(("inner", "outer"), [(4, 4), (6, 4), (4, 6), (6, 6)])
def test_nodes_reach_each_other_with_packets_of_full_size(
    lab_of: Callable[..., TunnelsLab], inner: int, outer: int
) -> None:
    one, other = lab_of(2, inner, outer).nodes
    headers = 28 if inner == 4 else 48

    def fits(size: int) -> bool:
        command = ["ping", "-M", "do", "-c", "1", "-W", "0.3", "-s", str(size - headers), other.transport]
        return one.host.run(command, check=False).returncode == 0

    assert fits(1420)
    assert not fits(1421)


def test_the_link_is_marked_and_nothing_differs_from_what_is_wanted(two: tuple[LabNode, LabNode]) -> None:
    node, other = two
    wanted = node.tunnels.wanted()

    assert differences(node) == []
    assert [(link.name[:2], link.alias, link.mtu) for link in wanted.links] == [
        ("cw", f"cnm:wireguard:{CLUSTER}", 1420)
    ]
    assert other.transport + "/32" in [route.destination for route in wanted.routes]


def differences(node: LabNode) -> list[Finding]:
    """Between what the node's tunnels want of the kernel and what there is."""
    wanted = node.tunnels.wanted()
    with node.host.enter():
        return diff([wanted], node.kernel.observe([wanted]))


def add_vxlan(node: LabNode, number: int, local: str, remote: str) -> None:
    """A VXLAN device made by hand, with an address in 10.200.0.0/24."""
    link = ["id", str(VNI), "dstport", str(PORT), "local", local, "remote", remote]
    node.host.run(["ip", "link", "add", "vx0", "mtu", "1370", "type", "vxlan", *link])
    node.host.run(["ip", "addr", "add", f"10.200.0.{number}/24", "dev", "vx0"])
    node.host.run(["ip", "link", "set", "vx0", "up"])


def keep_secret(*nodes: LabNode) -> None:
    addresses = [node.address for node in nodes]
    for node in nodes:
        node.kernel.start_firewall(overlay_elements([VNI], [VNI], addresses, PORT))


def is_datagram(packet: Packet) -> bool:
    """Whatever a host says to another; not what its bridges and groups say to the link, which may be at any time."""
    if packet.haslayer(IP):
        return packet[IP].proto != socket.IPPROTO_IGMP
    return packet.haslayer(IPv6) and packet.haslayer(UDP)


def test_the_wire_sees_nothing_but_wireguard_of_a_vxlan_between_transport_addresses(
    two: tuple[LabNode, LabNode],
) -> None:
    one, other = two
    keep_secret(one, other)

    with one.host.capture("eth0", is_datagram) as capture:
        add_vxlan(one, 1, one.transport, other.transport)
        add_vxlan(other, 2, other.transport, one.transport)
        eventually(lambda: one.host.ping("10.200.0.2", timeout=0.5, size=1300))
        seen = capture.packets

    assert len(seen) >= 2
    assert {packet[UDP].dport in _WIREGUARD_PORTS for packet in seen} == {True}


def test_a_vxlan_of_an_encrypted_network_says_nothing_in_the_clear(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    keep_secret(one, other)

    with one.host.capture("eth0", lambda packet: packet.haslayer(VXLAN)) as capture:
        add_vxlan(one, 1, one.address, other.address)
        add_vxlan(other, 2, other.address, one.address)
        assert not one.host.ping("10.200.0.2", timeout=0.3)
        assert capture.packets == []
        one.kernel.start_firewall(())
        other.kernel.start_firewall(())
        eventually(lambda: one.host.ping("10.200.0.2", timeout=0.5))
        assert capture.packets != []


def test_without_its_process_a_tunnel_lets_nothing_out(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    one.tunnels.leave()
    os.kill(pid(one), signal.SIGKILL)
    eventually(lambda: not answers(one))

    with one.host.capture("eth0", is_datagram) as capture:
        assert not one.ping(other, timeout=0.3)
        one.host.ping(other.address)

    assert one.transport not in [packet[IP].src for packet in capture.packets if packet.haslayer(IP)]


def answers(node: LabNode) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(f"/run/wireguard/{node.interface}.sock") == 0


def test_an_address_that_is_no_nodes_is_not_looked_for_elsewhere(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    one.host.run(["ip", "route", "add", "default", "via", other.address])

    with one.host.capture("eth0", is_datagram) as capture:
        assert not one.host.ping("10.99.77.77", timeout=0.2)
        one.host.ping(other.address)

    assert "10.99.77.77" not in [packet[IP].dst for packet in capture.packets if packet.haslayer(IP)]


# Setting again


def test_the_same_value_again_does_nothing_and_another_one_does(two: tuple[LabNode, LabNode]) -> None:
    node, other = two
    config = node.config([other.record])

    node.tunnels.set(config)  # not in the daemon's namespace, where it could do nothing

    with pytest.raises(KernelError, match="not in the daemon's network namespace"):
        node.tunnels.set(replace(config, peers=()))


def test_sessions_go_on_while_other_nodes_come_and_go(lab_of: Callable[..., TunnelsLab]) -> None:
    lab = lab_of(3)
    one, other, third = lab.nodes
    running = stream(one, other)

    for _ in range(5):
        one.set([other.record])
        eventually(lambda: not one.ping(third, timeout=0.05))
        one.set([other.record, third.record])
        eventually(lambda: one.ping(third, timeout=0.2))

    assert running.stop() == 0
    assert running.sent > 100


def test_a_node_with_another_key_and_address_is_reached_again(lab_of: Callable[..., TunnelsLab]) -> None:
    lab = lab_of(2)
    one, other = lab.nodes
    key = replace_key(other)
    other.host.run(["ip", "addr", "add", "192.0.2.77/24", "dev", "eth0"])
    other.address = "192.0.2.77"

    lab.spread()

    eventually(lambda: one.ping(other, timeout=0.2))
    assert other.tunnels.report()[0].node == one.name
    assert other.ring.current.private_key == key


def replace_key(node: LabNode) -> str:
    key = generate_private_key()
    current = node.ring.current
    node.ring = type(node.ring)(
        current=type(current)(
            generation=current.generation, slot=current.slot, private_key=key, made=current.made
        )
    )
    return key


def test_a_wrong_value_changes_nothing(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    config = one.config([other.record])
    wrong = replace(config, peers=(replace(config.peers[0], transport="fd99::2"),))

    with one.host.enter(), pytest.raises(InvalidParameter, match="fd99::2 is of another family"):
        one.tunnels.set(wrong)

    assert one.ping(other)


# Processes


def test_a_killed_process_is_replaced_on_the_same_link_and_its_sessions_return(
    two: tuple[LabNode, LabNode], record_property: Callable[[str, object], None]
) -> None:
    one, other = two
    first, index = pid(one), link_index(one)
    running = stream(other, one)

    os.kill(first, signal.SIGKILL)
    seconds = eventually(lambda: pid(one) not in (0, first) and one.ping(other, timeout=0.02))
    eventually(lambda: other.ping(one, timeout=0.2))

    record_property("seconds until a ping is answered after kill -9", round(seconds, 3))
    record_property("packets lost of 1,000 a second", running.stop())
    assert seconds < 3
    assert link_index(one) == index


def link_index(node: LabNode) -> int:
    with node.host.enter():
        return socket.if_nametoindex(node.interface)


def test_a_process_that_dies_again_and_again_is_replaced_each_time(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    for _ in range(3):
        before = pid(one)
        os.kill(before, signal.SIGKILL)
        eventually(lambda before=before: pid(one) not in (0, before))

    eventually(lambda: one.ping(other, timeout=0.2))


def test_a_link_that_somebody_deletes_is_made_again_with_everything_on_it(
    two: tuple[LabNode, LabNode],
) -> None:
    one, other = two
    before = pid(one)

    one.host.run(["ip", "link", "del", one.interface])

    eventually(lambda: pid(one) not in (0, before) and differences(one) == [])
    eventually(lambda: one.ping(other, timeout=0.2))


def test_repair_brings_back_what_somebody_took(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    one.host.run(["ip", "route", "flush", "dev", one.interface])
    one.host.run(["ip", "addr", "flush", "dev", one.interface])
    wireguard.remove_peers(one.interface, other.record.wireguard_key)
    assert differences(one) != []

    with one.host.enter():
        one.tunnels.repair()

    assert differences(one) == []
    eventually(lambda: one.ping(other, timeout=0.2))


def test_the_next_daemon_takes_everything_up_without_losing_a_packet(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    before = pid(one)
    running = [stream(one, other), stream(other, one)]

    one.restart()
    one.set([other.record])

    assert [each.stop() for each in running] == [0, 0]
    assert pid(one) == before
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid(one) not in (0, before))


def test_the_next_daemon_mends_what_happened_while_there_was_none(
    lab_of: Callable[..., TunnelsLab],
) -> None:
    one, other, third = lab_of(3).nodes
    first = pid(one)

    one.restart()
    os.kill(first, signal.SIGKILL)
    one.set([other.record])

    assert pid(one) not in (0, first)
    eventually(lambda: one.ping(other, timeout=0.2))
    routes = one.host.run(["ip", "route", "show", "dev", one.interface]).stdout
    assert other.transport in routes
    assert third.transport not in routes


def test_a_process_that_hangs_is_replaced_by_the_next_daemon(two: tuple[LabNode, LabNode]) -> None:
    one, other = two
    hanging = pid(one)

    one.restart()
    os.kill(hanging, signal.SIGSTOP)
    one.set([other.record])

    assert pid(one) not in (0, hanging)
    assert not Path(f"/proc/{hanging}/exe").exists()
    eventually(lambda: one.ping(other, timeout=0.2))


# Beginning and end


def test_nothing_is_left_when_it_is_closed(two: tuple[LabNode, LabNode]) -> None:
    one, _other = two
    process, name = pid(one), one.interface
    before = one.host.run(["ip", "-br", "link"]).stdout

    with one.host.enter():
        one.tunnels.close()

    assert name in before
    assert "cw" not in one.host.run(["ip", "-br", "link"]).stdout
    assert "10.99" not in one.host.run(["ip", "route", "show", "table", "all"]).stdout
    assert not Path(f"/run/wireguard/{name}.sock").exists()
    assert not Path(f"/proc/{process}/exe").exists()


def test_a_link_of_others_is_left_alone_and_named(make_topology: Callable[..., Topology]) -> None:
    node = LabNode(make_topology(description(1)).hosts["n1"], 1, 4, 4)
    name = node.tunnels._interfaces[0].name
    node.host.run(["ip", "link", "add", name, "type", "bridge"])

    with pytest.raises(Conflict, match=f"interface {name} exists and is not ours"):
        node.set([])
    node.close()

    assert name in node.host.run(["ip", "-br", "link"]).stdout


def test_a_name_that_is_served_in_another_namespace_is_refused(
    lab_of: Callable[..., TunnelsLab], make_topology: Callable[..., Topology]
) -> None:
    lab = lab_of(1)
    twin = LabNode(make_topology(description(1)).hosts["n1"], 1, 4, 4)

    with pytest.raises(Conflict, match="in another network namespace: end that, or give this node another"):
        twin.set([])
    twin.close()

    assert "cw" not in twin.host.run(["ip", "-br", "link"]).stdout
    assert pid(lab.nodes[0]) != 0
    assert answers(lab.nodes[0])


def test_where_nothing_can_encrypt_it_is_said_what_to_install(make_topology: Callable[..., Topology]) -> None:
    node = LabNode(make_topology(description(1)).hosts["n1"], 1, 4, 4)
    with node.host.enter():
        node.tunnels = Tunnels(CLUSTER, "n1", node.kernel, program="/nowhere/wireguard-go")
        try:
            with pytest.raises(NotBuilt, match="load module wireguard, or install wireguard-go"):
                node.set([])
            assert "cw" not in node.host.run(["ip", "-br", "link"]).stdout
        finally:
            node.close()


# New keys


def hurry(lab: TunnelsLab) -> TunnelsLab:
    """Its nodes do not wait for what may still be on its way: their time flies."""
    began = time.time()
    lab.clock = lambda: began + 20 * (time.time() - began)
    return lab


def rotate(lab: TunnelsLab) -> None:
    """From the first announcement until nobody has an old key."""
    before = {node.name: node.ring.current for node in lab.nodes}
    lab.step(rotate=lab.nodes[0].name)
    eventually(lab.is_rotated, 20)
    assert all(node.ring.current.generation == before[node.name].generation + 1 for node in lab.nodes)


def test_a_rotation_loses_no_packet(
    lab_of: Callable[..., TunnelsLab], record_property: Callable[[str, object], None]
) -> None:
    lab = lab_of(3)
    streams = [stream(one, other) for one, other in permutations(lab.nodes, 2)]

    rotate(lab)

    lost, sent = [each.stop() for each in streams], sum(each.sent for each in streams)
    record_property("packets lost over a rotation", f"{sum(lost)} of {sent}")
    assert lost == [0] * 6
    for node in lab.nodes:
        assert len(node.tunnels.processes()) == len(node.interfaces) == 1
        assert node.host.run(["ip", "-br", "link"]).stdout.count("cw") == 1


def test_two_nodes_that_begin_at_once_make_one_rotation(lab_of: Callable[..., TunnelsLab]) -> None:
    lab = hurry(lab_of(2))
    one, other = lab.nodes
    lab.deaf = {other.name}
    lab.step(rotate=one.name)
    lab.deaf = {one.name}
    lab.step(rotate=other.name)
    lab.deaf = set()

    eventually(lab.is_rotated, 20)

    assert [node.ring.current.generation for node in lab.nodes] == [2, 2]
    assert one.ping(other)


def test_while_a_node_hears_nothing_the_old_keys_serve_it_and_the_new_ones_wait(
    lab_of: Callable[..., TunnelsLab],
) -> None:
    lab = hurry(lab_of(3))
    one, other, deaf = lab.nodes
    streams = [stream(*pair) for pair in permutations(lab.nodes, 2)]
    lab.deaf = {deaf.name}

    lab.step(rotate=one.name)
    lab.step()
    eventually(lambda: other.name in one.tunnels.reached(2))
    lab.step()
    ways = {report.node: report.generation for report in one.tunnels.report() if report.carries}

    assert ways == {other.name: 2, deaf.name: 1}
    assert len(one.ring.keys) == len(other.ring.keys) == 2
    lab.deaf = set()
    eventually(lab.is_rotated, 20)
    assert [each.stop() for each in streams] == [0] * 6


@pytest.mark.parametrize(("inner", "outer"), [(4, 4), (6, 6)])
def test_a_daemon_that_starts_in_the_middle_of_a_rotation_goes_on_with_it(
    lab_of: Callable[..., TunnelsLab], inner: int, outer: int
) -> None:
    lab = hurry(lab_of(2, inner, outer))
    one, other = lab.nodes
    running = [stream(one, other), stream(other, one)]
    lab.step(rotate=one.name)
    lab.step()
    processes = one.tunnels.processes()

    one.restart()
    one.set([other.record])

    assert one.tunnels.processes() == processes
    eventually(lab.is_rotated, 20)
    assert [each.stop() for each in running] == [0, 0]


def test_it_is_told_when_a_node_is_reached_by_the_next_keys(
    make_topology: Callable[..., Topology],
) -> None:
    told: list[bool] = []
    with running_lab(make_topology(description(2)), 2) as lab:
        one, other = lab.nodes
        with one.host.enter():
            one.tunnels.leave()
            moved = Tunnels(
                *(CLUSTER, one.name, one.kernel),
                program=str(program("wireguard-go")),
                moved=lambda: told.append(moved.reached(2) == {other.name}),
            )
            one.tunnels = moved
            one.tunnels.up(one.config([other.record]))
        lab.deaf = {one.name}
        lab.step(rotate=other.name)
        for process in other.tunnels.processes():
            os.kill(process, signal.SIGSTOP)
        lab.deaf = {other.name}
        lab.step()
        assert one.tunnels.reached(2) == frozenset()
        lab.deaf = set()

        for process in other.tunnels.processes():
            os.kill(process, signal.SIGCONT)
        lab.spread()
        eventually(lambda: told)

    assert told[0]
