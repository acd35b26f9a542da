"""The address pools used where the configuration gives none."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from ipaddress import IPv6Address

from cnm.errors import InvalidParameter
from cnm.ipam.cidr import parse_cidr
from cnm.ipam.pools import AddressPool

LOCAL_POOLS = (
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""Docker's, 30 networks in all, without 172.17.0.0/16: that one is docker0's, which may come up after us."""

GLOBAL_POOLS = (("10.0.0.0/8", 24),)


def ula_pool(host_id: str) -> tuple[str, int]:
    """This host's own IPv6 pool: fd00::/8 and 40 bits of the host id's SHA-256 make a /48, split in /64.

    RFC 4193 wants the 40 bits to be unlikely to meet again elsewhere; Docker derives the same ones.
    """
    global_id = int.from_bytes(sha256(host_id.encode()).digest()[:8], "big") & (1 << 40) - 1
    return f"{IPv6Address(0xFD << 120 | global_id << 80)}/48", 64


def parse_pools(pools: Iterable[tuple[str, int]]) -> tuple[list[AddressPool], list[AddressPool]]:
    """(base, size) pairs as (IPv4, IPv6) pools, in their order. Raises InvalidParameter."""
    families: tuple[list[AddressPool], list[AddressPool]] = ([], [])
    for text, size in pools:
        try:
            base = parse_cidr(text).network
        except ValueError:
            raise InvalidParameter(
                f"invalid default address pool {text}: invalid CIDR block notation"
            ) from None
        if not base.prefixlen <= size <= base.max_prefixlen:
            sizes = f"from /{base.prefixlen} to /{base.max_prefixlen}"
            raise InvalidParameter(f"invalid default address pool {text}: size /{size} must be {sizes}")
        families[base.version == 6].append(AddressPool(base, size))
    return families
