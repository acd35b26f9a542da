"""rtnetlink messages for addresses of links. Source: linux/if_addr.h."""

from __future__ import annotations

import socket
import struct

from cnm.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, Request, attribute, attributes

RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_BROADCAST = 4
_IFA_F_NODAD = 0x02
_IFA_F_PERMANENT = 0x80
_SCOPE_LINK = 253

_IFADDRMSG = struct.Struct("=BBBBi")


def split(cidr: str) -> tuple[int, bytes, int]:
    """(address family, packed address, prefix length) of CIDR text or a bare address."""
    address, _, length = cidr.partition("/")
    if ":" in address:
        return socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address), int(length or 128)
    return socket.AF_INET, socket.inet_pton(socket.AF_INET, address), int(length or 32)


def add(name: str, cidr: str, index: int) -> Request:
    family, packed, length = split(cidr)
    parts = [_IFADDRMSG.pack(family, length, _IFA_F_NODAD if family == socket.AF_INET6 else 0, 0, index)]
    parts += [attribute(_IFA_LOCAL, packed), attribute(_IFA_ADDRESS, packed)]
    if family == socket.AF_INET and length < 31:
        host = (1 << (32 - length)) - 1
        broadcast = int.from_bytes(packed, "big") | host
        parts.append(attribute(_IFA_BROADCAST, broadcast.to_bytes(4, "big")))
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts), f"add address {cidr} to {name}")


def delete(name: str, cidr: str, index: int) -> Request:
    family, packed, length = split(cidr)
    payload = _IFADDRMSG.pack(family, length, 0, 0, index) + attribute(_IFA_LOCAL, packed)
    return Request(RTM_DELADDR, 0, payload, f"remove address {cidr} from {name}")


def list_all() -> Request:
    return Request(RTM_GETADDR, 0, _IFADDRMSG.pack(0, 0, 0, 0, 0), "list addresses")


def parse(message: Message) -> tuple[int, str, bool]:
    """(link index, CIDR text, whether it is a link-local IPv6 address or one that expires)."""
    family, length, flags, scope, index = _IFADDRMSG.unpack_from(message.payload)
    found = attributes(message.payload, _IFADDRMSG.size)
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    automatic = family == socket.AF_INET6 and (scope == _SCOPE_LINK or not flags & _IFA_F_PERMANENT)
    return index, f"{socket.inet_ntop(family, packed)}/{length}", automatic
