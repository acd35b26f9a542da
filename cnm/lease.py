"""Pools and addresses that dockerd holds through our IPAM plugin: plain data, kept until dockerd gives them back."""

from __future__ import annotations

import msgspec


class LeasedPool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool; `plugin` is the name that dockerd asked by, `pool_id` the allocator's."""

    plugin: str
    pool_id: str
    subnet: str
    """CIDR text."""
    ip_range: str = ""

    @property
    def id(self) -> str:
        return f"{self.plugin} {self.pool_id}"


class LeasedAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a leased pool, as CIDR text with the subnet's prefix length."""

    plugin: str
    pool_id: str
    cidr: str
    gateway: bool = False

    @property
    def address(self) -> str:
        return self.cidr.partition("/")[0]

    @property
    def id(self) -> str:
        return f"{self.plugin} {self.pool_id} {self.address}"
