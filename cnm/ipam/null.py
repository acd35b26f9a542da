"""The null IPAM: one pool of everything per family, shared by all its networks, and no addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnm.errors import InvalidParameter
from cnm.ipam.contract import AddressSpaces, IpamCapabilities, PoolLease, PoolStatus

SPACE = "null"
_POOL_V4 = PoolLease("null/0.0.0.0/0", "0.0.0.0/0")
_POOL_V6 = PoolLease("null/::/0", "::/0")


class NullIpam:
    """Implements `Ipam`."""

    name = "null"

    def default_address_spaces(self) -> AddressSpaces:
        return AddressSpaces(SPACE, SPACE)

    def capabilities(self) -> IpamCapabilities:
        return IpamCapabilities()

    def request_pool(
        self,
        space: str,
        pool: str = "",
        sub_pool: str = "",
        options: Mapping[str, str] | None = None,
        v6: bool = False,
        *,
        exclude: Sequence[str] = (),
    ) -> PoolLease:
        if space != SPACE:
            raise InvalidParameter(f"unknown address space: {space}")
        if pool:
            raise InvalidParameter(f"null ipam driver does not handle specific address pool requests: {pool}")
        if sub_pool:
            raise InvalidParameter(
                f"null ipam driver does not handle specific address subpool requests: {sub_pool}"
            )
        return _POOL_V6 if v6 else _POOL_V4

    def release_pool(self, pool_id: str) -> None:
        _check(pool_id)

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        _check(pool_id)
        if address:
            raise InvalidParameter(f"null ipam driver gives no addresses: {address} cannot be had")
        return ""

    def release_address(self, pool_id: str, address: str) -> None:
        _check(pool_id)

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        _check(pool_id)

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        _check(pool_id)

    def pool_status(self, pool_id: str) -> PoolStatus | None:
        _check(pool_id)
        return None


def _check(pool_id: str) -> None:
    if pool_id not in (_POOL_V4.pool_id, _POOL_V6.pool_id):
        raise InvalidParameter(f"unknown pool id: {pool_id}")
