"""rtnetlink messages for routes. Source: linux/rtnetlink.h."""

from __future__ import annotations

import socket
import struct

from cnm.kernel.address_messages import split
from cnm.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Request,
    attribute,
    attributes,
    u32,
)
from cnm.kernel.state import Route

RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26

TABLE_MAIN = 254
TABLE_LOCAL = 255

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_TABLE = 15
_PROTOCOL_STATIC = 4
PROTOCOL_KERNEL = 2
_SCOPE_UNIVERSE = 0
_SCOPE_LINK = 253
_SCOPE_HOST = 254
_TYPE_UNICAST = 1
_TYPE_LOCAL = 2
_RTM_F_CLONED = 0x200

_RTMSG = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")


def _payload(route: Route, index: int) -> bytes:
    family, packed, length = split(route.destination)
    kind = _TYPE_LOCAL if route.local else _TYPE_UNICAST
    scope = _SCOPE_HOST if route.local else _SCOPE_UNIVERSE if route.via else _SCOPE_LINK
    table = route.table if route.table < 256 else 0
    parts = [_RTMSG.pack(family, length, 0, 0, table, _PROTOCOL_STATIC, scope, kind, 0), u32(_RTA_OIF, index)]
    if length:
        parts.append(attribute(_RTA_DST, packed))
    if route.via:
        parts.append(attribute(_RTA_GATEWAY, split(route.via)[1]))
    if route.metric:
        parts.append(u32(_RTA_PRIORITY, route.metric))
    if not table:
        parts.append(u32(_RTA_TABLE, route.table))
    return b"".join(parts)


def add(route: Route, index: int) -> Request:
    """Add, without touching another route to the same place: EEXIST then."""
    doing = f"add route to {route.destination} by {route.via or route.link}"
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _payload(route, index), doing)


def replace(route: Route, index: int) -> Request:
    doing = f"set route to {route.destination} by {route.via or route.link}"
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _payload(route, index), doing)


def delete(route: Route, index: int) -> Request:
    doing = f"remove route to {route.destination} by {route.via or route.link}"
    return Request(RTM_DELROUTE, 0, _payload(route, index), doing)


def list_all(family: int, table: int = 0) -> Request:
    """All routes of one address family, of one table or (0) of all."""
    return Request(RTM_GETROUTE, 0, _RTMSG.pack(family, 0, 0, 0, table, 0, 0, 0, 0), "list routes")


def lookup(address: str) -> Request:
    """The route that a packet to `address` (its prefix length counts for nothing) would take."""
    family, packed, _length = split(address)
    header = _RTMSG.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    return Request(RTM_GETROUTE, 0, header + attribute(_RTA_DST, packed), f"look up the route to {address}")


def is_local(message: Message | None) -> bool:
    """Whether a route leads to the host itself."""
    return message is not None and _RTMSG.unpack_from(message.payload)[7] == _TYPE_LOCAL


def parse(message: Message) -> tuple[int, Route, int] | None:
    """(link index, route without its link's name, RTPROT_*); None for what is not a plain route of ours."""
    family, length, _src, _tos, table, protocol, _scope, kind, flags = _RTMSG.unpack_from(message.payload)
    if kind not in (_TYPE_UNICAST, _TYPE_LOCAL) or flags & _RTM_F_CLONED:
        return None
    found = attributes(message.payload, _RTMSG.size)
    if _RTA_OIF not in found:
        return None
    any_address = b"\0" * (4 if family == socket.AF_INET else 16)
    destination = socket.inet_ntop(family, found.get(_RTA_DST, any_address))
    route = Route(
        destination=f"{destination}/{length}",
        link="",
        via=socket.inet_ntop(family, found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else "",
        table=_number(found.get(_RTA_TABLE)) or table,
        metric=_number(found.get(_RTA_PRIORITY)),
        local=kind == _TYPE_LOCAL,
    )
    return _number(found[_RTA_OIF]), route, protocol


def _number(raw: bytes | None) -> int:
    return int(_U32.unpack(raw)[0]) if raw else 0
