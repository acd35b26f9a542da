"""rtnetlink messages for neighbours and forwarding entries. Source: linux/neighbour.h."""

from __future__ import annotations

import socket
import struct

from cnm.kernel.address_messages import split
from cnm.kernel.link_messages import mac_bytes, mac_text
from cnm.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Message, Request, attribute, attributes
from cnm.kernel.state import FdbEntry, Neighbor

RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30

_NDA_DST = 1
_NDA_LLADDR = 2
_NUD_PERMANENT = 0x80
_NUD_NOARP = 0x40
_NTF_SELF = 0x02
_NTF_MASTER = 0x04
_AF_BRIDGE = 7

_NDMSG = struct.Struct("=BxHiHBB")


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


def list_family(family: int) -> Request:
    return Request(RTM_GETNEIGH, 0, _NDMSG.pack(family, 0, 0, 0, 0, 0), "list neighbours")


def list_fdb() -> Request:
    return list_family(_AF_BRIDGE)


def parse(message: Message) -> tuple[int, Neighbor] | None:
    """(link index, permanent neighbour without its link's name); None for learned ones."""
    family, _, index, state, _flags, _kind = _NDMSG.unpack_from(message.payload)
    found = attributes(message.payload, _NDMSG.size)
    if not state & _NUD_PERMANENT or _NDA_DST not in found or _NDA_LLADDR not in found:
        return None
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return index, Neighbor("", socket.inet_ntop(family, found[_NDA_DST]), mac_text(found[_NDA_LLADDR]))


def parse_fdb(message: Message) -> tuple[int, FdbEntry] | None:
    """(link index, static forwarding entry without its link's name); None for learned ones and the kernel's own."""
    _family, _, index, state, _flags, _kind = _NDMSG.unpack_from(message.payload)
    found = attributes(message.payload, _NDMSG.size)
    if _NDA_LLADDR not in found:
        return None
    mac, raw = mac_text(found[_NDA_LLADDR]), found.get(_NDA_DST)
    if raw is not None:
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        return index, FdbEntry("", mac, socket.inet_ntop(family, raw))
    return (index, FdbEntry("", mac)) if state & _NUD_NOARP and not state & _NUD_PERMANENT else None
