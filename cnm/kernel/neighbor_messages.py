"""rtnetlink messages for neighbours and forwarding entries. Source: linux/neighbour.h."""

from __future__ import annotations

import socket
import struct

from cnm.kernel.address_messages import split
from cnm.kernel.link_messages import mac_bytes, mac_text
from cnm.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Message, Request, attribute, u32
from cnm.kernel.state import FdbEntry, Neighbor

RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30

_NDA_DST = 1
_NDA_LLADDR = 2
_NDA_IFINDEX = 8
_NDA_MASTER = 9
_NUD_PERMANENT = 0x80
_NUD_NOARP = 0x40
_NTF_SELF = 0x02
_NTF_MASTER = 0x04
_NTF_EXT_LEARNED = 0x10
_AF_BRIDGE = 7

_NDMSG = struct.Struct("=BxHiHBB")
_unpack_attribute = struct.Struct("=HH").unpack_from


def add(neighbor: Neighbor, index: int) -> Request:
    family, packed, _ = split(neighbor.address)
    payload = _NDMSG.pack(family, 0, index, _NUD_PERMANENT, 0, 0) + attribute(_NDA_DST, packed)
    payload += attribute(_NDA_LLADDR, mac_bytes(neighbor.mac))
    doing = f"add neighbour {neighbor.address} on {neighbor.link}"
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, payload, doing)


def delete(neighbor: Neighbor, index: int) -> Request:
    family, packed, _ = split(neighbor.address)
    payload = _NDMSG.pack(family, 0, index, 0, 0, 0) + attribute(_NDA_DST, packed)
    return Request(RTM_DELNEIGH, 0, payload, f"remove neighbour {neighbor.address} on {neighbor.link}")


def _fdb_payload(entry: FdbEntry, index: int) -> bytes:
    """A VXLAN entry belongs to the device itself, a bridge port's to its bridge.

    There a permanent entry would be the host's own address; one that only needs no ARP is static.
    """
    flags, state = (_NTF_SELF, _NUD_PERMANENT | _NUD_NOARP) if entry.remote else (_NTF_MASTER, _NUD_NOARP)
    payload = _NDMSG.pack(_AF_BRIDGE, 0, index, state, flags, 0)
    payload += attribute(_NDA_LLADDR, mac_bytes(entry.mac))
    return payload + (attribute(_NDA_DST, split(entry.remote)[1]) if entry.remote else b"")


def add_fdb(entry: FdbEntry, index: int) -> Request:
    doing = f"add forwarding entry {entry.mac} on {entry.link}"
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, _fdb_payload(entry, index), doing)


def delete_fdb(entry: FdbEntry, index: int) -> Request:
    doing = f"remove forwarding entry {entry.mac} on {entry.link}"
    return Request(RTM_DELNEIGH, 0, _fdb_payload(entry, index), doing)


def list_family(family: int, index: int = 0) -> Request:
    """Neighbours of one link, or of all."""
    payload = _NDMSG.pack(family, 0, 0, 0, 0, 0) + (u32(_NDA_IFINDEX, index) if index else b"")
    return Request(RTM_GETNEIGH, 0, payload, "list neighbours")


def list_fdb(index: int) -> Request:
    """Forwarding entries of one device, its own and those of its bridge."""
    return Request(RTM_GETNEIGH, 0, _NDMSG.pack(_AF_BRIDGE, 0, index, 0, 0, 0), "list forwarding entries")


def parse(message: Message) -> tuple[int, Neighbor] | None:
    """(link index, permanent neighbour without its link's name); None for learned ones."""
    family, _, index, _state, _flags, _kind = _NDMSG.unpack_from(message.payload)
    parsed = parse_permanent(message)
    if parsed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return index, Neighbor("", socket.inet_ntop(family, parsed[1]), mac_text(parsed[0]))


def parse_permanent(message: Message) -> tuple[bytes, bytes] | None:
    """(MAC, address) of a permanent neighbour, packed; None for learned ones and those of other control planes."""
    _family, _, _index, state, flags, _kind = _NDMSG.unpack_from(message.payload)
    if not state & _NUD_PERMANENT or flags & _NTF_EXT_LEARNED:
        return None
    mac, address = _pair(message.payload)
    return (mac, address) if mac and address else None


def parse_static(message: Message) -> tuple[bytes, bytes] | None:
    """(MAC, VTEP) of a static forwarding entry, packed; the VTEP is empty for an entry of a bridge.

    None for learned ones, those of other control planes, and the kernel's own.
    """
    _family, _, _index, state, flags, _kind = _NDMSG.unpack_from(message.payload)
    if not state & _NUD_NOARP or flags & _NTF_EXT_LEARNED:
        return None
    mac, vtep = _pair(message.payload)
    return (mac, vtep) if mac and (vtep or not state & _NUD_PERMANENT) else None


def _pair(payload: bytes) -> tuple[bytes, bytes]:
    """Link address and destination of an entry, empty where it has none; there may be tens of thousands."""
    mac = destination = b""
    offset, end = _NDMSG.size, len(payload)
    while offset < end:
        length, kind = _unpack_attribute(payload, offset)
        if kind == _NDA_LLADDR:
            mac = payload[offset + 4 : offset + length]
            if destination:
                break
        elif kind == _NDA_DST:
            destination = payload[offset + 4 : offset + length]
            if mac:
                break
        elif kind == _NDA_MASTER or length < 4:
            break  # an entry of a bridge has no destination
        offset += (length + 3) & ~3
    return mac, destination


def parse_fdb(message: Message) -> tuple[int, FdbEntry] | None:
    """(link index, static forwarding entry without its link's name); None for learned ones and the kernel's own."""
    parsed = parse_static(message)
    if parsed is None:
        return None
    _family, _, index, _state, _flags, _kind = _NDMSG.unpack_from(message.payload)
    mac, raw = parsed
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return index, FdbEntry("", mac_text(mac), socket.inet_ntop(family, raw) if raw else "")
