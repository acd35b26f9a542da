"""The hand-packed rtnetlink messages say what they should, read by another decoder (pyroute2's)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cnm.kernel import address_messages, link_messages, neighbor_messages, route_messages
from cnm.kernel.netlink import Message, Request, attribute, attributes, text
from cnm.kernel.state import FdbEntry, Group, Link, LinkKind, Neighbor, Peer, Route

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: bytes([raw[0] & 0xFE | 2, *raw[1:]]).hex(":"))
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)
IPV4 = st.ip_addresses(v=4).map(str)
# Global and unique local addresses: the C library writes IPv4-mapped ones in another way than Python does.
IPV6 = st.one_of(st.ip_addresses(network="2000::/3"), st.ip_addresses(network="fc00::/7")).map(str)


def decoded(kind: type, request: Request) -> Any:
    """The request as pyroute2 reads it from the wire."""
    length = 16 + len(request.payload)
    message = kind(struct.pack("=IHHII", length, request.kind, request.flags, 1, 0) + request.payload)
    message.decode()
    return message


def a_port(**changes: Any) -> Link:
    fields = {
        "name": "cv0123456789ab",
        "kind": LinkKind.VETH,
        "mac": "06:42:00:00:00:01",
        "mtu": 1400,
        "master": "cnm-0123",
        "alias": "cnm:endpoint:0123",
        "group": Group.PORT,
        "peer": Peer("/run/x", "eth0", "02:42:0a:00:00:02", 1400),
    }
    return Link(**(fields | changes))


def test_creation_gives_name_mac_mtu_master_and_index() -> None:
    message = decoded(ifinfmsg, link_messages.create(a_port(), index=77, master_index=5, peer_namespace_fd=9))

    assert message["index"] == 77
    assert message.get_attr("IFLA_IFNAME") == "cv0123456789ab"
    assert message.get_attr("IFLA_ADDRESS") == "06:42:00:00:00:01"
    assert message.get_attr("IFLA_MTU") == 1400
    assert message.get_attr("IFLA_MASTER") == 5


def test_creation_makes_the_peer_in_its_namespace_with_its_mac() -> None:
    message = decoded(ifinfmsg, link_messages.create(a_port(), index=77, master_index=5, peer_namespace_fd=9))

    info = message.get_attr("IFLA_LINKINFO")
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_ADDRESS") == "02:42:0a:00:00:02"
    assert peer.get_attr("IFLA_MTU") == 1400
    assert peer.get_attr("IFLA_NET_NS_FD") == 9


def test_a_link_is_created_down_and_set_up_when_it_is_marked() -> None:
    created = decoded(ifinfmsg, link_messages.create(a_port(), index=77))
    configured = decoded(ifinfmsg, link_messages.configure(a_port(), index=77))

    assert created["flags"] & 1 == 0
    assert created.get_attr("IFLA_GROUP") is None
    assert (configured["flags"] & 1, configured["change"]) == (1, 1)
    assert configured["index"] == 77
    assert configured.get_attr("IFLA_IFALIAS") == "cnm:endpoint:0123"
    assert configured.get_attr("IFLA_GROUP") == Group.PORT


@pytest.mark.parametrize(("isolated", "hairpin"), [(True, False), (False, True), (True, True)])
def test_port_flags_are_those_of_the_bridge(isolated: bool, hairpin: bool) -> None:
    message = decoded(ifinfmsg, link_messages.configure(a_port(isolated=isolated, hairpin=hairpin), index=77))

    info = message.get_attr("IFLA_LINKINFO")
    flags = info.get_attr("IFLA_INFO_SLAVE_DATA")
    assert info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    assert flags.get_attr("IFLA_BRPORT_ISOLATED") == isolated
    assert flags.get_attr("IFLA_BRPORT_MODE") == hairpin


def test_retiring_takes_a_link_down_out_of_its_bridge_and_into_the_reapers_group() -> None:
    message = decoded(ifinfmsg, link_messages.retire("cv0123456789ab", 77, "cr4d"))

    assert (message["index"], message["flags"] & 1, message["change"]) == (77, 0, 1)
    assert message.get_attr("IFLA_MASTER") == 0
    assert message.get_attr("IFLA_GROUP") == Group.REAP
    assert message.get_attr("IFLA_IFNAME") == "cr4d"


@given(NAMES, st.integers(1, 2**31 - 1), IPV4, st.integers(0, 32))
def test_ipv4_addresses_round_trip(name: str, index: int, address: str, length: int) -> None:
    message = decoded(ifaddrmsg, address_messages.add(name, f"{address}/{length}", index))

    assert (message["index"], message["prefixlen"]) == (index, length)
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == address


@given(IPV6, st.integers(0, 128))
def test_ipv6_addresses_are_added_without_duplicate_address_detection(address: str, length: int) -> None:
    message = decoded(ifaddrmsg, address_messages.add("eth0", f"{address}/{length}", 3))

    assert message["flags"] & 0x02
    assert (message.get_attr("IFA_LOCAL"), message["prefixlen"]) == (address, length)


def test_a_point_to_point_subnet_has_no_broadcast_address() -> None:
    wide = decoded(ifaddrmsg, address_messages.add("eth0", "10.1.2.3/24", 3))
    narrow = decoded(ifaddrmsg, address_messages.add("eth0", "10.1.2.2/31", 3))

    assert wide.get_attr("IFA_BROADCAST") == "10.1.2.255"
    assert narrow.get_attr("IFA_BROADCAST") is None


@given(st.one_of(IPV4, IPV6), st.integers(0, 2**32 - 1))
def test_default_routes_go_by_the_gateway(gateway: str, metric: int) -> None:
    destination = "::/0" if ":" in gateway else "0.0.0.0/0"
    message = decoded(rtmsg, route_messages.add(Route(destination, "eth0", gateway, metric=metric), 4))

    assert (message["dst_len"], message.get_attr("RTA_DST")) == (0, None)
    assert message.get_attr("RTA_GATEWAY") == gateway
    assert message.get_attr("RTA_OIF") == 4
    assert message.get_attr("RTA_PRIORITY") == (metric or None)


def test_a_local_route_is_of_type_local_in_its_table() -> None:
    route = Route("::1/128", "cnm-1", table=255, metric=7, local=True)
    message = decoded(rtmsg, route_messages.add(route, 4))

    assert (message["type"], message["table"], message["scope"]) == (2, 255, 254)
    assert (message.get_attr("RTA_DST"), message.get_attr("RTA_PRIORITY")) == ("::1", 7)


@given(st.one_of(IPV4, IPV6), MACS)
def test_neighbours_are_permanent(address: str, mac: str) -> None:
    message = decoded(ndmsg, neighbor_messages.add(Neighbor("br", address, mac), 4))

    assert (message["ifindex"], message["state"]) == (4, 0x80)
    assert (message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR")) == (address, mac)


def test_a_vxlan_forwarding_entry_belongs_to_the_device_and_names_the_vtep() -> None:
    message = decoded(ndmsg, neighbor_messages.add_fdb(FdbEntry("vx7", "02:42:00:00:00:09", "192.0.2.9"), 4))

    assert message["family"] == 7
    assert message["flags"] == 2
    assert (message.get_attr("NDA_LLADDR"), message.get_attr("NDA_DST")) == ("02:42:00:00:00:09", "192.0.2.9")


@given(st.lists(st.tuples(st.integers(1, 1000), st.binary(max_size=40)), unique_by=lambda pair: pair[0]))
def test_attributes_unpack_as_they_were_packed(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in pairs)

    assert attributes(data) == dict(pairs)


def test_truncated_attributes_end_the_list_and_raise_nothing() -> None:
    whole = text(1, "first") + text(2, "second")

    assert attributes(whole[:-5]) == {1: b"first\0"}


@given(st.one_of(IPV4, IPV6), st.integers(0, 32))
def test_a_listed_address_reads_back_as_it_was_added(address: str, length: int) -> None:
    request = address_messages.add("eth0", f"{address}/{length}", 12)

    index, cidr, _automatic = address_messages.parse(Message(request.kind, request.payload))
    assert (index, cidr) == (12, f"{address}/{length}")


@given(IPV4, st.integers(0, 32), IPV4)
def test_a_listed_route_reads_back_as_it_was_added(destination: str, length: int, via: str) -> None:
    zero = "0.0.0.0" if length == 0 else destination
    request = route_messages.add(Route(f"{zero}/{length}", "eth0", via), 12)

    parsed = route_messages.parse(Message(request.kind, request.payload))
    assert parsed is not None
    assert parsed[:2] == (12, Route(f"{zero}/{length}", "", via))


# Links on a parent


def a_sub_interface(kind: LinkKind, mode: str) -> Link:
    return Link(
        "eth0", kind, mac="02:42:0a:00:00:02", mtu=1400, alias="cnm:endpoint:1", parent="up0", mode=mode
    )


def info_of(message: Any) -> tuple[str, Any]:
    info = message.get_attr("IFLA_LINKINFO")
    return info.get_attr("IFLA_INFO_KIND"), info.get_attr("IFLA_INFO_DATA")


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_a_macvlan_names_its_parent_and_its_mode(mode: str) -> None:
    request = link_messages.create(a_sub_interface(LinkKind.MACVLAN, mode), index=77, parent_index=12)
    message = decoded(ifinfmsg, request)

    kind, data = info_of(message)
    assert (kind, data.get_attr("IFLA_MACVLAN_MODE")) == ("macvlan", mode)
    assert message.get_attr("IFLA_LINK") == 12


@pytest.mark.parametrize(("layer", "number"), [("l2", 0), ("l3", 1), ("l3s", 2)])
@pytest.mark.parametrize(("flag", "bits"), [("bridge", 0), ("private", 1), ("vepa", 2)])
def test_an_ipvlan_names_its_layer_and_its_flag(layer: str, number: int, flag: str, bits: int) -> None:
    link = a_sub_interface(LinkKind.IPVLAN, f"{layer}:{flag}")
    message = decoded(ifinfmsg, link_messages.create_inside(link, "cm1", namespace_fd=9, parent_index=12))

    kind, data = info_of(message)
    assert (kind, data.get_attr("IFLA_IPVLAN_MODE")) == ("ipvlan", number)
    raw = attributes(attributes(attributes(request_payload(link), 16)[18])[2])
    assert raw[2] == struct.pack("=H", bits)  # a decoder may have no name for the flags


def request_payload(link: Link) -> bytes:
    return link_messages.create_inside(link, "cm1", namespace_fd=9, parent_index=12).payload


@given(st.integers(1, 4094))
def test_a_vlan_names_its_number(number: int) -> None:
    link = a_sub_interface(LinkKind.VLAN, str(number))
    message = decoded(ifinfmsg, link_messages.create(link, index=77, parent_index=12))

    kind, data = info_of(message)
    assert (kind, data.get_attr("IFLA_VLAN_ID")) == ("vlan", number)


def test_a_dummy_needs_nothing_but_its_kind() -> None:
    message = decoded(ifinfmsg, link_messages.create(Link("dm-1", LinkKind.DUMMY), index=77))

    assert info_of(message) == ("dummy", None)


def test_a_sub_interface_is_made_in_the_sandbox_down_and_with_its_group() -> None:
    link = a_sub_interface(LinkKind.MACVLAN, "bridge")
    message = decoded(ifinfmsg, link_messages.create_inside(link, "cm1", namespace_fd=9, parent_index=12))

    assert (message["index"], message["flags"] & 1) == (0, 0)
    assert message.get_attr("IFLA_IFNAME") == "cm1"
    assert message.get_attr("IFLA_NET_NS_FD") == 9
    assert message.get_attr("IFLA_GROUP") == Group.SUB_INTERFACE
    assert message.get_attr("IFLA_ADDRESS") == "02:42:0a:00:00:02"
    assert message.get_attr("IFLA_MTU") == 1400


def test_a_sub_interface_gets_its_name_and_its_mark_when_it_is_set_up() -> None:
    link = a_sub_interface(LinkKind.MACVLAN, "passthru")
    message = decoded(ifinfmsg, link_messages.configure_inside(link, 5))

    assert (message["index"], message["flags"] & 1, message["change"]) == (5, 1, 1)
    assert message.get_attr("IFLA_IFNAME") == "eth0"
    assert message.get_attr("IFLA_IFALIAS") == "cnm:endpoint:1"
    assert message.get_attr("IFLA_ADDRESS") == "02:42:0a:00:00:02"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (LinkKind.MACVLAN, "vepa"),
        (LinkKind.MACVLAN, "passthru"),
        (LinkKind.IPVLAN, "l3s:private"),
        (LinkKind.IPVLAN, "l2:bridge"),
        (LinkKind.VLAN, "4094"),
    ],
)
def test_a_listed_sub_interface_reads_back_as_it_was_made(kind: LinkKind, mode: str) -> None:
    request = link_messages.create(a_sub_interface(kind, mode), index=77, parent_index=12)

    observed = link_messages.parse(Message(request.kind, request.payload))
    assert (observed.link.kind, observed.link.mode, observed.parent_index) == (kind, mode, 12)


def test_the_other_end_of_a_pair_is_no_parent() -> None:
    request = link_messages.create(a_port(), index=77, parent_index=12)

    observed = link_messages.parse(Message(request.kind, request.payload))
    assert (observed.link.mode, observed.parent_index) == ("", 0)
