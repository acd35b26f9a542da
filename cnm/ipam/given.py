"""The IPAM of networks whose owner gives out the addresses itself: it takes everything as it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnm.ipam.contract import AddressSpaces, IpamCapabilities, PoolLease, PoolStatus


class GivenIpam:
    """Implements `Ipam` without a memory; a pool's id is its subnet."""

    name = "given"

    def default_address_spaces(self) -> AddressSpaces:
        return AddressSpaces("given", "given")

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
        return PoolLease(pool, pool)

    def release_pool(self, pool_id: str) -> None:
        """Nothing is held."""

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        """ "" where the owner gave none."""
        return f"{address}/{pool_id.partition('/')[2]}" if address else ""

    def release_address(self, pool_id: str, address: str) -> None:
        """Nothing is held."""

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        """Nothing is held."""

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        """Nothing is held."""

    def pool_status(self, pool_id: str) -> PoolStatus | None:
        return None
