"""CIDR and address text, read as strictly as Docker does: no netmasks, no zones, no leading zeros."""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

Subnet = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_CIDR = re.compile(r"[0-9A-Fa-f:.]+/(0|[1-9][0-9]{0,2})")


def parse_cidr(text: str) -> IPv4Interface | IPv6Interface:
    """A prefix that may have host bits set; `.network` is without them. Raises ValueError."""
    if not _CIDR.fullmatch(text):
        raise ValueError(f"{text!r} is not in CIDR notation")
    interface = ip_interface(text)
    if isinstance(interface, IPv6Interface) and interface.ip.ipv4_mapped:
        raise ValueError(f"{text!r} is an IPv4 subnet written as IPv6")
    return interface


def parse_address(text: str) -> Address:
    """A bare address; an IPv4 one written as IPv6 (::ffff:192.0.2.1) becomes IPv4. Raises ValueError."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def span(subnet: Subnet) -> tuple[int, int]:
    """First and last address of the subnet as numbers."""
    first = int(subnet.network_address)
    return first, first + subnet.num_addresses - 1
