"""MAC addresses that we choose: always locally administered, derived from what they stand for."""

from __future__ import annotations

import hashlib
import os
import socket


def generate_mac(ipv4: str, ipv6: str) -> str:
    """The address of an endpoint's interface, as Docker's: 02:42 and the four bytes of its IPv4 address.

    Both arguments are CIDR text or ""; an endpoint with IPv6 only gets four bytes of a hash of that address.
    Raises OSError where `ipv4` is no address.
    """
    if ipv4:
        return "02:42:" + socket.inet_pton(socket.AF_INET, ipv4.partition("/")[0]).hex(":")
    return derived_mac("02:42", ipv6.partition("/")[0])


def random_mac() -> str:
    """An address that nothing follows from, as dockerd makes one for an IPAM that must know it before the address."""
    return "02:42:" + os.urandom(4).hex(":")


def derived_mac(prefix: str, name: str) -> str:
    """Two fixed bytes ("02:42") and four that follow from `name`, so that a repair gives the same again."""
    return f"{prefix}:" + hashlib.sha256(name.encode()).digest()[:4].hex(":")
