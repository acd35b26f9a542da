"""Which subnets no endpoint can have an address of."""

from __future__ import annotations

import ipaddress

from cnm.errors import InvalidParameter

_RESERVED = (
    ("loopback", ipaddress.ip_network("127.0.0.0/8")),
    ("multicast", ipaddress.ip_network("224.0.0.0/4")),
    ("loopback", ipaddress.ip_network("::1/128")),
    ("link-local", ipaddress.ip_network("fe80::/10")),
    ("multicast", ipaddress.ip_network("ff00::/8")),
)
"""RFC 6890; every interface has link-local IPv6 addresses of its own."""


def check_usable(text: str) -> None:
    """Raises InvalidParameter for a subnet (CIDR text) with addresses that mean something else."""
    subnet = ipaddress.ip_network(text)
    for what, reserved in _RESERVED:
        if subnet.version == reserved.version and subnet.overlaps(reserved):
            raise InvalidParameter(f"subnet {text} has {what} addresses ({reserved}): choose another subnet")
