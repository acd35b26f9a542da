"""Socket addresses as this package writes them: an address as text and a port, whatever the family."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address
from typing import Any

from netns_fixtures.namespace import Namespace
from netns_fixtures.outcome import Address


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 for an IPv6 address, AF_INET for any other."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def socket_address(namespace: Namespace, target: Address) -> tuple[Any, ...]:
    """The socket module's form of an address; the zone of "fe80::1%eth0" is looked up in the namespace."""
    address, port = target
    if ":" not in address:
        return (address, port)
    bare, _, zone = address.partition("%")
    if not zone:
        return (bare, port, 0, 0)
    with namespace.enter():
        return (bare, port, 0, socket.if_nametoindex(zone))


def plain(address: tuple[Any, ...]) -> Address:
    """An address that the socket module gave, without zone, flow label or IPv6 mapping."""
    parsed = ip_address(address[0].partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed), address[1]
