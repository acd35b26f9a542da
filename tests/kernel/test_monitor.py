"""Hints come when somebody else changes what is ours, and never from our own verbs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cnm.firewall import ruleset, sets
from cnm.kernel.link_messages import RTM_NEWLINK
from cnm.kernel.linux import LinuxKernel
from cnm.kernel.monitor import RTMGRP_LINK, Hint, Monitor, datagrams, messages
from cnm.kernel.netlink import Message
from cnm.kernel.state import Address, FirewallElement, Group, KernelState, Link, LinkKind, Peer
from netns_fixtures import Host, Topology

pytestmark = pytest.mark.topology({"hosts": {"host": {}, "box": {}}})

QUIET = 0.3
"""Seconds without a hint that count as none; notifications are there when the change returns."""
SOON = 5.0
AF_BRIDGE = 7

BRIDGE = Link("cnm-test", LinkKind.BRIDGE, "02:42:00:00:00:01", alias="cnm:network:1", group=Group.BRIDGE)
NETWORK = KernelState(
    links=(BRIDGE,),
    addresses=(Address("cnm-test", "192.0.2.1/24"), Address("cnm-test", "fd00::1/64")),
    elements=(FirewallElement(sets.SAME, ("cnm-test", "cnm-test")),),
)


def endpoint(box: Host) -> KernelState:
    link = Link(
        "cvtest",
        LinkKind.VETH,
        "02:42:00:00:00:02",
        master="cnm-test",
        alias="cnm:endpoint:1",
        group=Group.PORT,
        peer=Peer(str(box.path), "eth0", "02:42:00:00:00:03"),
    )
    return KernelState(links=(link,), elements=(FirewallElement(sets.PORTS, ("cvtest",), ("accept",)),))


@pytest.fixture
def kernel(topology: Topology) -> Iterator[LinuxKernel]:
    with topology.host.enter():
        made = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text)
        made.start_firewall(())
        yield made
        made.close()


@pytest.fixture
def monitor(kernel: LinuxKernel, topology: Topology) -> Iterator[Monitor]:
    """Of a host that has a network and an endpoint already."""
    kernel.apply([NETWORK, endpoint(topology.box)])
    made = Monitor([kernel.firewall_port])
    yield made
    made.close()
    assert made.wait(SOON) is Hint.CLOSED


def test_our_own_verbs_are_no_hints(kernel: LinuxKernel, topology: Topology) -> None:
    monitor = Monitor([kernel.firewall_port])
    states = (NETWORK, endpoint(topology.box))

    kernel.apply(states)
    kernel.remove(states, wait=True)

    assert monitor.wait(QUIET) is Hint.NOTHING


@pytest.mark.parametrize(
    "damage",
    [
        "ip link set cnm-test down",
        "ip link set cvtest down",
        "ip link set cvtest group default",
        "ip link delete cnm-test",
        "ip link delete cvtest",
        "ip address delete 192.0.2.1/24 dev cnm-test",
        "ip address delete fd00::1/64 dev cnm-test",
        "nft delete element inet cnm same { cnm-test . cnm-test }",
        "nft flush ruleset",
    ],
)
def test_damage_by_others_is_a_hint(monitor: Monitor, topology: Topology, damage: str) -> None:
    topology.host.run(damage.split())

    assert monitor.wait(SOON) is Hint.CHANGED


@pytest.mark.parametrize(
    "change",
    [
        "ip link add other type veth peer name rehto",
        "ip address add 198.51.100.1/24 dev lo",
        "ip address flush dev lo",
        "ip link set lo down",
    ],
)
def test_what_others_do_with_their_own_links_is_none(
    monitor: Monitor, topology: Topology, change: str
) -> None:
    topology.host.run(change.split())

    assert monitor.wait(QUIET) is Hint.NOTHING


def test_what_a_bridge_tells_of_its_ports_wakes_nobody(
    kernel: LinuxKernel, monitor: Monitor, topology: Topology
) -> None:
    with topology.host.enter():
        everything = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    everything.bind((0, RTMGRP_LINK))
    everything.setblocking(False)
    topology.host.run(["bridge", "link", "set", "dev", "cvtest", "cost", "10"])

    with everything:
        assert of_bridges(everything)
    assert not of_bridges(monitor._links)


def of_bridges(listener: socket.socket) -> list[Message]:
    """What bridges told of their ports, of all that has come: the links themselves may tell something late."""
    told = [message for data in datagrams(listener) for message in messages(data)]
    return [m for m in told if m.kind == RTM_NEWLINK and m.payload[0] == AF_BRIDGE]
