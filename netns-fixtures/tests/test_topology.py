"""What a description becomes in the kernel, and what is left of it afterwards."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import (
    BridgeSpec,
    EndSpec,
    Host,
    HostSpec,
    KernelRefused,
    LinkSpec,
    RouteSpec,
    Topology,
    TopologyError,
    TopologySpec,
)
from netns_fixtures.plugin import TopologyFactory


def routes(host: Host, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.run(["ip", "-j", *options, "route"]).stdout)
    return found


def pair_of(left: HostSpec, right: HostSpec, mtu: int = 0) -> TopologySpec:
    """Hosts `left` and `right` on a cable."""
    ends = (
        EndSpec("left", "eth0", addresses=("192.0.2.1/24", "2001:db8::1/64")),
        EndSpec("right", "eth0", addresses=("192.0.2.2/24", "2001:db8::2/64")),
    )
    return TopologySpec(hosts={"left": left, "right": right}, links=(LinkSpec(ends, mtu),))


def switched(count: int) -> TopologySpec:
    """A bridge with an address of its own and as many hosts on it."""
    bridge = BridgeSpec(addresses=("192.0.2.1/24", "2001:db8::1/64"))
    hosts = {f"h{number}": HostSpec() for number in range(count)}
    links = tuple(
        LinkSpec(
            (
                EndSpec(f"h{number}", "eth0", (f"192.0.2.{number + 10}/24", f"2001:db8::{number + 10}/64")),
                EndSpec("switch", f"port{number}", bridge="br0"),
            )
        )
        for number in range(count)
    )
    return TopologySpec(hosts | {"switch": HostSpec(bridges={"br0": bridge})}, links)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if open files, threads or mounts are more at the end of the block than at its start."""

    def held() -> tuple[set[str], set[threading.Thread], str]:
        return (
            set(os.listdir("/proc/self/fd")),
            set(threading.enumerate()),
            Path("/proc/self/mounts").read_text(),
        )

    before = held()
    yield
    assert held() == before


def test_hosts_on_a_cable_have_the_addresses_and_macs_of_the_description(pair: Topology) -> None:
    assert pair.left.addresses("eth0")[:2] == ["192.0.2.1/24", "2001:db8::1/64"]
    assert pair.right.mac("eth0") == "02:00:00:00:00:02"


@pytest.mark.parametrize("attempt", range(5))
def test_the_first_packet_after_building_passes_in_both_families(
    make_topology: TopologyFactory, attempt: int
) -> None:
    topology = make_topology(switched(3))

    assert topology.h0.ping("192.0.2.12")
    assert topology.h1.ping("2001:db8::12")
    assert topology.h2.ping("192.0.2.1")
    assert topology.switch.ping("2001:db8::10")


def test_no_address_is_tentative(pair: Topology) -> None:
    shown = pair.left.run(["ip", "-6", "address", "show", "dev", "eth0"]).stdout

    assert "inet6 fe80::" in shown
    assert "tentative" not in shown


def test_a_cable_has_its_mtu_at_both_ends(make_topology: TopologyFactory) -> None:
    topology = make_topology(pair_of(HostSpec(), HostSpec(), mtu=1300))

    for host in topology.hosts.values():
        assert json.loads(host.run(["ip", "-j", "link", "show", "eth0"]).stdout)[0]["mtu"] == 1300


def test_a_bridge_has_its_mac_mtu_and_ports(make_topology: TopologyFactory) -> None:
    bridge = BridgeSpec(mac="02:00:00:00:00:99", mtu=1400)
    ends = (EndSpec("switch", "port0", bridge="br0"), EndSpec("box", "eth0"))
    spec = TopologySpec(
        {"switch": HostSpec(bridges={"br0": bridge, "empty": BridgeSpec()}), "box": HostSpec()},
        (LinkSpec(ends, mtu=1400),),
    )

    links = json.loads(make_topology(spec).switch.run(["ip", "-j", "link"]).stdout)

    by_name = {link["ifname"]: link for link in links}
    assert (by_name["br0"]["address"], by_name["br0"]["mtu"]) == ("02:00:00:00:00:99", 1400)
    assert by_name["port0"]["master"] == "br0"
    assert "UP" in by_name["empty"]["flags"]


def test_routes_uplinks_and_loopback_addresses_exist(make_topology: TopologyFactory) -> None:
    extra = (RouteSpec("203.0.113.0/24", interface="eth0"), RouteSpec("2001:db8:9::/48", via="2001:db8::2"))
    left = HostSpec(uplink="right", routes=extra, loopback=("198.51.100.1/32",))

    topology = make_topology(pair_of(left, HostSpec()))

    v4 = {route["dst"]: route.get("gateway") for route in routes(topology.left)}
    v6 = {route["dst"]: route.get("gateway") for route in routes(topology.left, "-6")}
    assert v4 == {"default": "192.0.2.2", "192.0.2.0/24": None, "203.0.113.0/24": None}
    assert (v6["default"], v6["2001:db8:9::/48"]) == ("2001:db8::2", "2001:db8::2")
    assert "198.51.100.1/32" in topology.left.addresses("lo")


def test_only_a_forwarding_host_forwards(make_topology: TopologyFactory) -> None:
    topology = make_topology(pair_of(HostSpec(forward=True), HostSpec()))

    assert [host.sysctl("net.ipv4.ip_forward") for host in topology.hosts.values()] == ["1", "0"]
    assert [host.sysctl("net.ipv6.conf.eth0.forwarding") for host in topology.hosts.values()] == ["1", "0"]


def test_sysctls_hold_for_interfaces_by_name_and_over_the_defaults(make_topology: TopologyFactory) -> None:
    values: dict[str, str | int] = {
        "net.ipv4.conf.eth0.proxy_arp": 1,
        "net/ipv4/conf/all/rp_filter": "2",
        "net.ipv4.icmp_ratelimit": 500,
    }

    host = make_topology(pair_of(HostSpec(sysctls=values), HostSpec())).left

    assert host.sysctl("net.ipv4.conf.eth0.proxy_arp") == "1"
    assert host.sysctl("net.ipv4.conf.all.rp_filter") == "2"
    assert host.sysctl("net.ipv4.icmp_ratelimit") == "500"


def test_two_topologies_of_the_same_names_do_not_meet(make_topology: TopologyFactory) -> None:
    one, two = make_topology(switched(1)), make_topology(switched(1))
    two.switch.run(["ip", "address", "del", "192.0.2.1/24", "dev", "br0"])

    assert one.h0.ping("192.0.2.1")
    assert not two.h0.ping("192.0.2.1", timeout=0.2)


def test_nothing_is_left_of_a_topology_that_was_used(make_topology: TopologyFactory) -> None:
    make_topology(switched(1)).h0.capture("eth0").close()  # what is imported late is imported now

    with nothing_left():
        topology = Topology(switched(2))
        topology.h0.serve_tcp(80)
        topology.h0.serve_udp(53)
        topology.h0.capture("eth0")
        topology.h1.send(bytes(60), "eth0")
        assert topology.h1.connect_tcp("192.0.2.10", 80).answered
        child = topology.h1.popen(["sleep", "60"])
        topology.close()
        topology.close()

    assert child.returncode is not None


def test_nothing_is_left_of_a_topology_that_the_kernel_refused(make_topology: TopologyFactory) -> None:
    make_topology(switched(1))
    wrong = pair_of(HostSpec(), HostSpec(sysctls={"net.ipv4.no_such_thing": 1}))

    with (
        nothing_left(),
        pytest.raises(KernelRefused, match=r'host "right": sysctl "net\.ipv4\.no_such_thing"'),
    ):
        Topology(wrong)


def test_a_route_that_the_kernel_refuses_is_named(make_topology: TopologyFactory) -> None:
    twice = (RouteSpec("default", via="192.0.2.2"), RouteSpec("default", via="192.0.2.3"))

    with pytest.raises(
        KernelRefused, match='host "left": route to default: the kernel refused it: File exists'
    ):
        make_topology(pair_of(HostSpec(routes=twice), HostSpec()))


def test_an_unknown_host_is_answered_with_the_known_ones(pair: Topology) -> None:
    with pytest.raises(AttributeError, match='no host "middle"; hosts are left, right'):
        _ = pair.middle


def test_an_adopted_namespace_is_a_host_and_survives_the_topology(make_topology: TopologyFactory) -> None:
    owner, guest = make_topology(switched(1)), Topology(switched(1))
    box = guest.adopt("box", owner.h0.path)

    assert box.ping("192.0.2.1")
    with pytest.raises(TopologyError, match='host "box": the topology has one already'):
        guest.adopt("box", owner.h0.path)
    guest.close()
    assert owner.h0.ping("192.0.2.1")
