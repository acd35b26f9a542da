"""rtnetlink messages for links: create, change, retire, delete, and the decoder of what the kernel lists.

Source: linux/if_link.h, linux/rtnetlink.h, linux/veth.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from cnm.kernel import link_data
from cnm.kernel.netlink import (
    NLA_F_NESTED,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    Request,
    attribute,
    attributes,
    nested,
    text,
    u8,
    u32,
)
from cnm.kernel.state import Group, Link, LinkKind, Vxlan

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_PROTINFO = 12
_IFLA_OPERSTATE = 16
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_AF_SPEC = 26
_IFLA_GROUP = 27
_IFLA_NET_NS_FD = 28
_IFLA_EXT_MASK = 29
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_INFO_SLAVE_KIND = 4
_IFLA_INFO_SLAVE_DATA = 5
_IFLA_BRPORT_STATE = 1
_IFLA_BRPORT_MODE = 4
_IFLA_BRPORT_LEARNING = 8
_IFLA_BRPORT_ISOLATED = 33
_VETH_INFO_PEER = 1
_IFLA_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_MODE_NONE = 1
_RTEXT_FILTER_SKIP_STATS = 8
_AF_BRIDGE = 7
_AF_INET6 = 10
_ARPHRD_LOOPBACK = 772
_IFF_UP = 1
_IFF_LOWER_UP = 1 << 16
_IF_OPER_UP = 6

_IFINFOMSG = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class ObservedLink:
    """A link as the kernel has it: our record of it, its index, and its master's and its parent's index (0: none).

    The parent's index counts in the host's namespace for a sub-interface of ours, wherever that is.
    """

    index: int
    master_index: int
    link: Link
    parent_index: int = 0


def _header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFOMSG.pack(0, 0, index, flags, change)


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw: bytes) -> str:
    return raw.hex(":")


def create(
    link: Link, index: int, master_index: int = 0, peer_namespace_fd: int = -1, parent_index: int = 0
) -> Request:
    """Create `link` down, with the index `index`, so that a following `configure` can only meet this one."""
    parts = [_header(index), text(_IFLA_IFNAME, link.name)]
    if link.mac:
        parts.append(attribute(_IFLA_ADDRESS, mac_bytes(link.mac)))
    if link.mtu and link.kind is not LinkKind.BRIDGE:
        parts.append(u32(_IFLA_MTU, link.mtu))
    if master_index:
        parts.append(u32(_IFLA_MASTER, master_index))
    if parent_index:
        parts.append(u32(_IFLA_LINK, parent_index))
    parts.append(_link_info(link, peer_namespace_fd))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts), f"create interface {link.name}")


def create_inside(
    link: Link, name: str, namespace_fd: int, parent_index: int = 0, master_index: int = 0
) -> Request:
    """Create a link down in another namespace than what carries it, parent or underlay, where the request is sent.

    `name` is one that neither namespace has: before Linux 6.15 the kernel looks for it where the request is sent. The
    group is its mark until `configure_inside`. `master_index` is of the link's namespace.
    """
    group = Group.SEGMENT if link.vxlan else Group.SUB_INTERFACE
    parts = [_header(), text(_IFLA_IFNAME, name), u32(_IFLA_NET_NS_FD, namespace_fd), u32(_IFLA_GROUP, group)]
    if parent_index:
        parts.append(u32(_IFLA_LINK, parent_index))
    if master_index:
        parts.append(u32(_IFLA_MASTER, master_index))
    if link.mac:
        parts.append(attribute(_IFLA_ADDRESS, mac_bytes(link.mac)))
    if link.mtu:
        parts.append(u32(_IFLA_MTU, link.mtu))
    parts.append(_link_info(link, -1))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts), f"create interface {link.name}")


def configure_inside(link: Link, index: int) -> Request:
    """Give a link made by `create_inside` its name, mark, port flags and state; and its MAC, which passthru takes from
    the parent at first."""
    parts = [_header(index, _IFF_UP if link.up else 0, _IFF_UP), text(_IFLA_IFNAME, link.name)]
    if link.mac:
        parts.append(attribute(_IFLA_ADDRESS, mac_bytes(link.mac)))
    parts.append(attribute(_IFLA_IFALIAS, link.alias.encode()))
    if link.master:
        parts += [_NO_LINK_LOCAL, _port_flags(link)]
    return Request(RTM_NEWLINK, 0, b"".join(parts), f"configure interface {link.name}")


def _link_info(link: Link, peer_namespace_fd: int) -> bytes:
    kind = text(_IFLA_INFO_KIND, link.kind.value)
    if link.peer is None:
        data = link_data.pack_vxlan(link.vxlan) if link.vxlan else link_data.pack(link.kind, link.mode)
        return nested(_IFLA_LINKINFO, kind, *([nested(_IFLA_INFO_DATA, data)] if data else ()))
    peer = [_header(), text(_IFLA_IFNAME, link.peer.name), attribute(_IFLA_ADDRESS, mac_bytes(link.peer.mac))]
    if link.peer.mtu:
        peer.append(u32(_IFLA_MTU, link.peer.mtu))
    if link.peer.leaves:
        peer.append(u32(_IFLA_GROUP, Group.MOVED))
    if peer_namespace_fd >= 0:
        peer.append(u32(_IFLA_NET_NS_FD, peer_namespace_fd))
    data = nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER | NLA_F_NESTED, b"".join(peer)))
    return nested(_IFLA_LINKINFO, kind, data)


def configure(link: Link, index: int) -> Request:
    """Set the marks, the port flags and the state of a link that was just created.

    Its group comes with its state, so that to all listeners a link of our groups that is down is one that was set down.
    """
    flags = _IFF_UP if link.up else 0
    parts = [_header(index, flags, _IFF_UP)]
    if link.mtu and link.kind is LinkKind.BRIDGE:
        # A bridge keeps only an MTU that it is given after its creation; else it follows its ports.
        parts.append(u32(_IFLA_MTU, link.mtu))
    if link.group and not link.leaves:
        parts.append(u32(_IFLA_GROUP, link.group))
    if link.alias:
        parts.append(attribute(_IFLA_IFALIAS, link.alias.encode()))
    if link.master:
        parts.append(_NO_LINK_LOCAL)
        if link.isolated or link.hairpin:
            parts.append(_port_flags(link))
    return Request(RTM_NEWLINK, 0, b"".join(parts), f"configure interface {link.name}")


_NO_LINK_LOCAL = nested(_IFLA_AF_SPEC, nested(_AF_INET6, u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)))


def _port_flags(link: Link) -> bytes:
    """With learning only where a tunnel says so: what other ports do is the kernel's default."""
    flags = [u8(_IFLA_BRPORT_MODE, link.hairpin), u8(_IFLA_BRPORT_ISOLATED, link.isolated)]
    if link.vxlan:
        flags.append(u8(_IFLA_BRPORT_LEARNING, link.vxlan.learning))
    data = nested(_IFLA_INFO_SLAVE_DATA, *flags)
    return nested(_IFLA_LINKINFO, text(_IFLA_INFO_SLAVE_KIND, "bridge"), data)


def change(link: Link, found: ObservedLink, master_index: int = 0) -> Request:
    """Bring an existing link of ours to what `link` says (repair); kind and peer cannot change.

    The MAC only where it is another: setting it, even to the same, forgets the neighbours of the link.
    """
    parts = [_header(found.index, _IFF_UP if link.up else 0, _IFF_UP)]
    if link.mac not in ("", found.link.mac):
        parts.append(attribute(_IFLA_ADDRESS, mac_bytes(link.mac)))
    if link.mtu:
        parts.append(u32(_IFLA_MTU, link.mtu))
    if link.group and not link.leaves:
        parts.append(u32(_IFLA_GROUP, link.group))
    if link.alias:
        parts.append(attribute(_IFLA_IFALIAS, link.alias.encode()))
    if link.master:
        parts.append(u32(_IFLA_MASTER, master_index))
    return Request(RTM_NEWLINK, 0, b"".join(parts), f"change interface {link.name}")


def port_flags(link: Link, index: int) -> Request:
    """Set the bridge port flags of an existing port, on and off."""
    payload = _header(index) + _port_flags(link)
    return Request(RTM_NEWLINK, 0, payload, f"set the bridge port flags of {link.name}")


def change_tunnel(name: str, index: int, vxlan: Vxlan) -> Request:
    """Give a VXLAN device another local address of the same family; what it forwards to stays."""
    data = nested(_IFLA_INFO_DATA, link_data.pack_vxlan_change(vxlan))
    info = nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, LinkKind.VXLAN.value), data)
    return Request(RTM_NEWLINK, 0, _header(index) + info, f"change the tunnel of interface {name}")


def up(name: str, index: int, mtu: int = 0) -> Request:
    payload = _header(index, _IFF_UP, _IFF_UP) + (u32(_IFLA_MTU, mtu) if mtu else b"")
    return Request(RTM_NEWLINK, 0, payload, f"set interface {name} up")


def set_address(name: str, index: int, mac: str) -> Request:
    payload = _header(index) + attribute(_IFLA_ADDRESS, mac_bytes(mac))
    return Request(RTM_NEWLINK, 0, payload, f"set the MAC address of interface {name}")


def retire(name: str, index: int, retired_name: str) -> Request:
    """Cut a link off at once: down, out of its bridge, renamed, in the group that the reaper deletes."""
    parts = [
        _header(index, 0, _IFF_UP),
        text(_IFLA_IFNAME, retired_name),
        u32(_IFLA_MASTER, 0),
        u32(_IFLA_GROUP, Group.REAP),
    ]
    return Request(RTM_SETLINK, 0, b"".join(parts), f"take interface {name} away")


def cut_off(name: str, index: int) -> Request:
    """Put a link where the firewall lets nothing of it through: its other end is taken away by others first.

    Setting it down, or taking it out of its bridge, would wait for an RCU grace period each.
    """
    return Request(RTM_SETLINK, 0, _header(index) + u32(_IFLA_GROUP, Group.LEFT), f"cut interface {name} off")


def disable_port(name: str, index: int) -> Request:
    """Let nothing come or go by a bridge port, until its carrier is lost and comes back.

    Asked of the bridge: what is asked of the link ends with a notification at which the bridge enables the port again.
    """
    state = nested(_IFLA_PROTINFO, u8(_IFLA_BRPORT_STATE, 0))
    payload = _IFINFOMSG.pack(_AF_BRIDGE, 0, index, 0, 0) + state
    return Request(RTM_SETLINK, 0, payload, f"cut interface {name} off")


def hand_to_reaper(name: str, index: int) -> Request:
    """Of a link that was cut off already: the rest is the reaper's."""
    return Request(
        RTM_SETLINK, 0, _header(index) + u32(_IFLA_GROUP, Group.REAP), f"take interface {name} away"
    )


def rename_down(name: str, index: int, new_name: str) -> Request:
    payload = _header(index, 0, _IFF_UP) + text(_IFLA_IFNAME, new_name)
    return Request(RTM_SETLINK, 0, payload, f"rename interface {name}")


def move(name: str, index: int, namespace_fd: int, new_name: str) -> Request:
    """Set a link down and move it to another namespace under another name, in one step of the kernel's."""
    parts = [_header(index, 0, _IFF_UP), u32(_IFLA_NET_NS_FD, namespace_fd), text(_IFLA_IFNAME, new_name)]
    return Request(RTM_SETLINK, 0, b"".join(parts), f"move interface {name}")


def delete(name: str, index: int) -> Request:
    """Delete one link, which waits for an RCU grace period."""
    return Request(RTM_DELLINK, 0, _header(index), f"delete interface {name}")


def delete_group(group: int) -> Request:
    """Delete every link of a device group in one go: one RCU grace period for all of them."""
    return Request(RTM_DELLINK, 0, _header() + u32(_IFLA_GROUP, group), "delete retired interfaces")


def get(name: str) -> Request:
    payload = _header() + text(_IFLA_IFNAME, name) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return Request(RTM_GETLINK, 0, payload, f"look up interface {name}")


def get_index(index: int) -> Request:
    payload = _header(index) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return Request(RTM_GETLINK, 0, payload, f"look up interface number {index}")


def list_all() -> Request:
    payload = _header() + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return Request(RTM_GETLINK, 0, payload, "list interfaces")


def parse(message: Message) -> ObservedLink:
    """An RTM_NEWLINK message as a record; `master` and `parent` hold nothing yet: the message has only indexes."""
    _family, kind, index, flags, _change = _IFINFOMSG.unpack_from(message.payload)
    found = attributes(message.payload, _IFINFOMSG.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    port = attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    link_kind = _kind(info, kind)
    data = attributes(info.get(_IFLA_INFO_DATA, b""))
    on_parent = link_kind in link_data.ON_PARENT
    link = Link(
        name=_string(found.get(_IFLA_IFNAME, b"")),
        kind=link_kind,
        mac=mac_text(found.get(_IFLA_ADDRESS, b"")),
        mtu=_number(found.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        alias=_string(found.get(_IFLA_IFALIAS, b"")),
        group=_number(found.get(_IFLA_GROUP)),
        isolated=port.get(_IFLA_BRPORT_ISOLATED, b"\0") != b"\0",
        hairpin=port.get(_IFLA_BRPORT_MODE, b"\0") != b"\0",
        mode=link_data.unpack(link_kind, data) if on_parent else "",
        vxlan=link_data.unpack_vxlan(data, port.get(_IFLA_BRPORT_LEARNING, b"\0") != b"\0")
        if link_kind is LinkKind.VXLAN
        else None,
    )
    parent_index = _number(found.get(_IFLA_LINK)) if on_parent else 0
    return ObservedLink(index, _number(found.get(_IFLA_MASTER)), link, parent_index)


def is_late(message: Message) -> bool:
    """Whether a link has its carrier, but is not turned on yet (RFC 2863: its operational state is not up)."""
    _family, _kind, _index, flags, _change = _IFINFOMSG.unpack_from(message.payload)
    operstate = attributes(message.payload, _IFINFOMSG.size).get(_IFLA_OPERSTATE, b"\0")
    return bool(flags & _IFF_LOWER_UP) and operstate[0] != _IF_OPER_UP


class LinkState(NamedTuple):
    """All that a listener to every change wants to pay for."""

    family: int
    ifindex: int
    group: int
    up: bool
    enslaved: bool
    """Whether it is a port of something."""


def parse_state(message: Message) -> LinkState:
    family, _kind, index, flags, _change = _IFINFOMSG.unpack_from(message.payload)
    group, enslaved = int(Group.NONE), False
    offset = _IFINFOMSG.size
    while offset + 4 <= len(message.payload):
        length, kind = _ATTRIBUTE.unpack_from(message.payload, offset)
        if kind == _IFLA_GROUP:
            (group,) = _U32.unpack_from(message.payload, offset + 4)
        elif kind == _IFLA_MASTER:
            enslaved = True
            break
        offset += (max(length, 4) + 3) & ~3
    return LinkState(family, index, group, bool(flags & _IFF_UP), enslaved)


def _kind(info: dict[int, bytes], device_type: int) -> LinkKind:
    if device_type == _ARPHRD_LOOPBACK:
        return LinkKind.LOOPBACK
    try:
        return LinkKind(_string(info.get(_IFLA_INFO_KIND, b"")))
    except ValueError:
        return LinkKind.OTHER


def _string(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _number(raw: bytes | None) -> int:
    return int(_U32.unpack(raw)[0]) if raw else 0
