"""Which descriptions are refused before anything is made, and with which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netns_fixtures import BridgeSpec, EndSpec, HostSpec, LinkSpec, RouteSpec, TopologyError, TopologySpec
from netns_fixtures.check import check
from netns_fixtures.segments import uplink_routes

A = EndSpec("a", "eth0", addresses=("192.0.2.1/24", "2001:db8::1/64"))
B = EndSpec("b", "eth0", addresses=("192.0.2.2/24", "2001:db8::2/64"))


def topology(a: HostSpec | None = None, end: EndSpec = A, far: EndSpec = B, mtu: int = 0) -> TopologySpec:
    return TopologySpec({"a": a or HostSpec(), "b": HostSpec()}, (LinkSpec((end, far), mtu),))


def host(**fields: Any) -> TopologySpec:
    return topology(HostSpec(**fields))


def end(**fields: Any) -> TopologySpec:
    return topology(HostSpec(bridges={"br0": BridgeSpec()}), replace(A, **fields))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (TopologySpec(), "the topology has no hosts"),
        (TopologySpec({"a/b": HostSpec()}), 'host "a/b": not a host name'),
        (TopologySpec({"": HostSpec()}), 'host "": not a host name'),
        (end(host="c"), 'link "c:eth0 - b:eth0": there is no host "c"; hosts are a, b'),
        (end(interface="sixteen-letters!"), 'interface "sixteen-letters!": not usable as an interface name'),
        (end(interface="a b"), 'interface "a b": not usable'),
        (end(interface="lo"), 'interface "lo": not usable'),
        (end(interface="br0"), 'host "a": two interfaces are named "br0"; rename one'),
        (end(bridge="br1", addresses=()), 'host "a" has no bridge "br1"; add it'),
        (end(bridge="br0"), 'a bridge port has no addresses; give them to bridge "br0"'),
        (end(addresses=("192.0.2.1",)), 'host "a": address "192.0.2.1" has no prefix length'),
        (end(addresses=("192.0.2.256/24",)), 'host "a": "192.0.2.256/24" is not an address'),
        (end(addresses=("192.0.2.2/24",)), 'host "b": address 192.0.2.2 is also that of host "a"'),
        (end(mac="02:00:00:00:00"), '"02:00:00:00:00" is not the MAC of an interface'),
        (end(mac="01:00:00:00:00:01"), '"01:00:00:00:00:01" is not the MAC of an interface'),
        (end(mac="00:00:00:00:00:00"), '"00:00:00:00:00:00" is not the MAC of an interface'),
        (topology(mtu=67), 'link "a:eth0 - b:eth0": host "a": MTU 67 is out of range'),
        (host(bridges={"br0": BridgeSpec(mtu=65536)}), 'host "a": bridge "br0": MTU 65536 is out of range'),
        (host(loopback=("nonsense",)), 'host "a": loopback: "nonsense" is not an address'),
        (host(sysctls={"kernel.hostname": "x"}), 'host "a": sysctl "kernel.hostname" is not the host\'s own'),
        (host(uplink="c"), 'host "a": uplink "c": there is no such host; hosts are a, b'),
        (host(uplink="a"), 'host "a": uplink "a": a host cannot be its own uplink'),
        (host(routes=(RouteSpec("default"),)), 'host "a": route to "default": leads nowhere'),
        (host(routes=(RouteSpec("default", interface="e"),)), 'the host has no interface "e"'),
        (host(routes=(RouteSpec("x/8", interface="eth0"),)), 'host "a": route to "x/8": '),
        (host(routes=(RouteSpec("::/0", via="192.0.2.2"),)), "of different families"),
        (
            host(routes=(RouteSpec("default", via="10.0.0.1"),)),
            "next hop 10.0.0.1 is in no subnet of the host",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(wrong: TopologySpec, complaint: str) -> None:
    with pytest.raises(TopologyError) as refusal:
        check(wrong)

    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_uplink_without_a_common_subnet_is_refused() -> None:
    far = replace(B, addresses=("198.51.100.2/24",))

    with pytest.raises(TopologyError, match='uplink "b": no common subnet'):
        check(topology(HostSpec(uplink="b"), far=far))


def test_the_same_address_on_two_segments_is_no_mistake() -> None:
    second = LinkSpec((replace(A, interface="eth1"), replace(B, interface="eth1")))
    one = topology()

    check(TopologySpec(one.hosts, (*one.links, second)))


def test_a_next_hop_outside_all_subnets_is_fine_with_an_interface() -> None:
    check(host(routes=(RouteSpec("default", via="fe80::1", interface="eth0"),)))


def test_an_uplink_is_a_default_route_for_each_common_family() -> None:
    far = replace(B, addresses=("192.0.2.2/24", "2001:db8::2/64"))

    assert uplink_routes(topology(HostSpec(uplink="b"), far=far), "a") == (
        RouteSpec("default", via="192.0.2.2"),
        RouteSpec("default", via="2001:db8::2"),
    )


def test_an_uplink_is_found_across_bridges() -> None:
    hosts = {
        "a": HostSpec(uplink="b"),
        "b": HostSpec(),
        "one": HostSpec(bridges={"br": BridgeSpec()}),
        "two": HostSpec(bridges={"br": BridgeSpec()}),
    }
    links = (
        LinkSpec((A, EndSpec("one", "p1", bridge="br"))),
        LinkSpec((EndSpec("two", "p1", bridge="br"), replace(B, addresses=("192.0.2.2/24",)))),
        LinkSpec((EndSpec("one", "p2", bridge="br"), EndSpec("two", "p2", bridge="br"))),
    )

    assert uplink_routes(TopologySpec(hosts, links), "a") == (RouteSpec("default", via="192.0.2.2"),)
