"""The hand-packed messages of overlay networks say what they should, read by another decoder (pyroute2's)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from cnm.errors import KernelError
from cnm.kernel import link_messages, neighbor_messages, remote_peers
from cnm.kernel.netlink import BULK_LONGEST, Message, NetlinkSocket, Request
from cnm.kernel.state import Group, Link, RemotePeer, Vxlan
from tests.support.overlays import device, peer

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: bytes([raw[0] & 0xFE | 2, *raw[1:]]).hex(":"))
IPV4 = st.ip_addresses(v=4).map(str)
# Global and unique local addresses: the C library writes IPv4-mapped ones in another way than Python does.
IPV6 = st.one_of(st.ip_addresses(network="2000::/3"), st.ip_addresses(network="fc00::/7")).map(str)
PEERS = st.builds(RemotePeer, MACS, IPV4 | IPV6, st.tuples(IPV4, IPV6))
REPLACE, APPEND, CREATE, REQUEST = 0x100, 0x800, 0x400, 0x1
NEW, DELETE = 28, 29


def decoded(kind: type, request: Request) -> Any:
    length = 16 + len(request.payload)
    message = kind(struct.pack("=IHHII", length, request.kind, request.flags, 1, 0) + request.payload)
    message.decode()
    return message


def made(link: Link) -> Any:
    return decoded(ifinfmsg, link_messages.create_inside(link, "cm1", namespace_fd=9, master_index=2))


# The device


@given(st.integers(1, 2**24 - 1), st.integers(1, 65535), IPV4)
def test_a_device_is_made_elsewhere_with_its_tunnel(vni: int, port: int, local: str) -> None:
    message = made(device(vni=vni, port=port, local=local))

    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA")
    assert info.get_attr("IFLA_INFO_KIND") == "vxlan"
    assert (data.get_attr("IFLA_VXLAN_ID"), data.get_attr("IFLA_VXLAN_LOCAL")) == (vni, local)
    assert data.get_attr("IFLA_VXLAN_PORT") == port
    assert (data.get_attr("IFLA_VXLAN_LEARNING"), data.get_attr("IFLA_VXLAN_PROXY")) == (0, 1)


@given(IPV6)
def test_a_device_may_have_an_underlay_of_ipv6(local: str) -> None:
    data = made(device(local=local)).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")

    assert data.get_attr("IFLA_VXLAN_LOCAL6") == local
    assert data.get_attr("IFLA_VXLAN_LOCAL") is None


def test_a_device_is_made_down_with_its_group_its_mtu_and_its_bridge() -> None:
    message = made(device())

    assert (message["index"], message["flags"] & 1) == (0, 0)
    assert message.get_attr("IFLA_IFNAME") == "cm1"
    assert (message.get_attr("IFLA_NET_NS_FD"), message.get_attr("IFLA_MASTER")) == (9, 2)
    assert (message.get_attr("IFLA_GROUP"), message.get_attr("IFLA_MTU")) == (Group.SEGMENT, 1450)
    assert message.get_attr("IFLA_ADDRESS") == "02:42:00:00:00:02"


def test_a_devices_port_does_not_learn_and_its_link_makes_no_address() -> None:
    message = decoded(ifinfmsg, link_messages.configure_inside(device(), 5))

    flags = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
    inet6 = message.get_attr("IFLA_AF_SPEC").get_attr("AF_INET6")
    assert (message["flags"] & 1, message.get_attr("IFLA_IFNAME")) == (1, "vx42")
    assert message.get_attr("IFLA_IFALIAS") == "cnm:network:1"
    assert flags.get_attr("IFLA_BRPORT_LEARNING") == 0
    assert inet6.get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1


@pytest.mark.parametrize(
    "vxlan",
    [Vxlan(1, "192.0.2.1"), Vxlan(2**24 - 1, "2001:db8::1", 8472), Vxlan(7, "192.0.2.1", learning=True)],
)
def test_a_listed_device_reads_back_as_it_was_made(vxlan: Vxlan) -> None:
    link = replace(device(), vxlan=vxlan)
    request = link_messages.create_inside(link, link.name, namespace_fd=9, master_index=2)

    observed = link_messages.parse(Message(request.kind, request.payload))

    assert observed.link == replace(link, master="", alias="", up=False)
    assert observed.master_index == 2


def test_another_local_address_is_all_that_changes_of_a_tunnel() -> None:
    message = decoded(ifinfmsg, link_messages.change_tunnel("vx42", 5, Vxlan(42, "192.0.2.9")))

    data = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert (message["index"], message["change"]) == (5, 0)
    assert dict(data["attrs"]) == {"IFLA_VXLAN_LOCAL": "192.0.2.9", "IFLA_VXLAN_LEARNING": 0}


# Remote endpoints


class Kernel:
    """Takes what is sent in bulk, and refuses what it is told to, by the number of the message among all."""

    def __init__(self, refused: dict[int, int] | None = None) -> None:
        self.batches: list[list[bytes]] = []
        self._refused = refused or {}

    def send_bulk(self, messages: Sequence[tuple[bytes, bytes]]) -> list[tuple[int, int, str]]:
        before = sum(map(len, self.batches))
        self.batches.append([head + bytes(8) + tail for head, tail in messages])
        positions = [n for n in range(len(messages)) if before + n in self._refused]
        return [(n, self._refused[before + n], "") for n in positions]

    @property
    def messages(self) -> list[Any]:
        found = []
        for raw in (raw for batch in self.batches for raw in batch):
            assert struct.unpack_from("=I", raw)[0] == len(raw)
            message = ndmsg(raw)
            message.decode()
            found.append(message)
        return found


def program(kernel: Kernel, added: Sequence[RemotePeer], removed: Sequence[RemotePeer] = ()) -> list[Any]:
    remote_peers.program(cast(NetlinkSocket, kernel), "vx42", 5, added, removed)
    return kernel.messages


@given(PEERS)
def test_an_added_endpoint_is_one_forwarding_entry_and_a_neighbour_for_each_address(one: RemotePeer) -> None:
    forwarding, *neighbors = program(Kernel(), [one])

    assert (forwarding["header"]["type"], forwarding["header"]["flags"]) == (NEW, REQUEST | CREATE | REPLACE)
    assert (forwarding["family"], forwarding["ifindex"]) == (7, 5)
    assert (forwarding["state"], forwarding["flags"]) == (0x42, 6)
    assert (forwarding.get_attr("NDA_LLADDR"), forwarding.get_attr("NDA_DST")) == (one.mac, one.vtep)
    assert [n.get_attr("NDA_DST") for n in neighbors] == list(one.addresses)
    for neighbor, family in zip(neighbors, (2, 10), strict=True):
        assert (neighbor["family"], neighbor["ifindex"], neighbor["state"]) == (family, 5, 0x80)
        assert neighbor.get_attr("NDA_LLADDR") == one.mac
        assert neighbor["header"]["flags"] == REQUEST | CREATE | REPLACE


@given(PEERS)
def test_a_removed_endpoint_loses_its_neighbours_first(one: RemotePeer) -> None:
    *neighbors, forwarding = program(Kernel(), [], [one])

    assert {m["header"]["type"] for m in (*neighbors, forwarding)} == {DELETE}
    assert [n.get_attr("NDA_DST") for n in neighbors] == list(one.addresses)
    assert (forwarding["family"], forwarding["flags"]) == (7, 6)
    assert forwarding.get_attr("NDA_DST") == one.vtep


def test_what_is_removed_and_added_at_once_is_only_added() -> None:
    before, after = peer(7, "192.0.2.2"), peer(7, "192.0.2.3")

    messages = program(Kernel(), [after], [before])

    assert {m["header"]["type"] for m in messages} == {NEW}


def test_whom_all_is_copied_to_is_appended() -> None:
    kernel = Kernel()

    remote_peers.flood(cast(NetlinkSocket, kernel), "vx42", 5, ["192.0.2.2"], ["2001:db8::2"])

    removed, added = kernel.messages
    assert (removed["header"]["type"], removed.get_attr("NDA_DST")) == (DELETE, "2001:db8::2")
    assert (added["header"]["type"], added["header"]["flags"]) == (NEW, REQUEST | CREATE | APPEND)
    assert (added["state"], added["flags"]) == (0xC0, 2)
    assert added.get_attr("NDA_LLADDR") == "00:00:00:00:00:00"


def test_no_batch_is_longer_than_a_send_may_be() -> None:
    kernel = Kernel()

    program(kernel, [peer(number, "192.0.2.2") for number in range(1, 1001)])

    assert [len(batch) for batch in kernel.batches] == [BULK_LONGEST] * 5


def test_a_refusal_in_a_later_batch_names_its_own_entry() -> None:
    """Three messages each: the second address of the 301st endpoint."""
    kernel = Kernel({900 + 2: errno.ENOBUFS})

    with pytest.raises(KernelError) as refusal:
        program(kernel, [peer(number, "192.0.2.2") for number in range(1, 401)])

    assert str(refusal.value) == (
        "cannot set remote endpoint fd42::12d (02:42:0a:00:01:2d) at 192.0.2.2 on vx42: no buffer space available"
    )
    assert len(kernel.messages) == 1200


def test_what_is_gone_already_is_removed_from_the_device_alone() -> None:
    """The kernel stops at the bridge when that has no entry."""
    kernel = Kernel({2: errno.ENOENT, 3: errno.ENOENT})

    *_, last = program(kernel, [], [peer(7, "192.0.2.2")])

    assert (last["header"]["type"], last["family"], last["flags"]) == (DELETE, 7, 2)


def test_an_endpoint_that_is_refused_is_taken_back_wholly() -> None:
    kernel = Kernel({0: errno.EAFNOSUPPORT})

    with pytest.raises(KernelError, match=r"02:42:0a:00:00:07 at 2001:db8::2"):
        program(kernel, [peer(7, "2001:db8::2"), peer(8, "192.0.2.2")])

    taken_back = [m for m in kernel.messages if m["header"]["type"] == DELETE]
    assert [m.get_attr("NDA_DST") for m in taken_back] == [*peer(7, "").addresses, None]
    assert {m.get_attr("NDA_LLADDR") for m in taken_back} == {"02:42:0a:00:00:07"}


# Reading


@given(PEERS)
def test_entries_read_back_as_they_were_written(one: RemotePeer) -> None:
    kernel = Kernel()
    program(kernel, [one])
    forwarding, *neighbors = (Message(NEW, raw[16:]) for raw in kernel.batches[0])

    static = neighbor_messages.parse_static(forwarding)
    permanent = [neighbor_messages.parse_permanent(n) for n in neighbors]

    mac = bytes.fromhex(one.mac.replace(":", ""))
    assert static is not None
    assert static[0] == mac
    assert [len(static[1]), *(len(found[1]) for found in permanent if found)] == [
        16 if ":" in one.vtep else 4, 4, 16,
    ]  # fmt: skip
    assert {found[0] for found in permanent if found} == {mac}
