"""The default IPAM: pools and addresses in memory, derived again at start-up from what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cnm.errors import InvalidParameter
from cnm.ipam.cidr import Address, Subnet, parse_address, parse_cidr
from cnm.ipam.contract import SERIAL, AddressSpaces, IpamCapabilities, PoolLease, PoolStatus
from cnm.ipam.defaults import GLOBAL_POOLS, LOCAL_POOLS, parse_pools, ula_pool
from cnm.ipam.pools import AddressSpace, PoolId

SPACES = AddressSpaces("LocalDefault", "GlobalDefault")


class Allocator:
    """Implements `Ipam`; safe for threads; touches neither disk nor kernel."""

    name = "default"

    def __init__(
        self,
        host_id: str,
        local_pools: Iterable[tuple[str, int]] = (),
        global_pools: Iterable[tuple[str, int]] = (),
    ) -> None:
        """Pools are pairs: a base as CIDR text, and the prefix length of the subnets that are cut from it.

        One list holds both families; a family without any has its default ones, the IPv6 one derived from
        `host_id`. Raises InvalidParameter.
        """
        local4, local6 = parse_pools(local_pools)
        global4, global6 = parse_pools(global_pools)
        default_local = parse_pools((*LOCAL_POOLS, ula_pool(host_id)))
        default_global, _ = parse_pools(GLOBAL_POOLS)
        self._spaces = {
            (SPACES.local, False): AddressSpace(SPACES.local, False, local4 or default_local[0]),
            (SPACES.local, True): AddressSpace(SPACES.local, True, local6 or default_local[1]),
            (SPACES.global_, False): AddressSpace(SPACES.global_, False, global4 or default_global),
            (SPACES.global_, True): AddressSpace(SPACES.global_, True, global6),
        }

    def default_address_spaces(self) -> AddressSpaces:
        return SPACES

    def capabilities(self) -> IpamCapabilities:
        return IpamCapabilities(requires_request_replay=True)

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
        """As `Ipam.request_pool`. A subnet that was asked for may touch `exclude`."""
        request = (
            f'failed to parse pool request for address space "{space}" pool "{pool}" subpool "{sub_pool}"'
        )
        subnet = _parse(pool, f"{request}: invalid address pool")
        ip_range = _parse(sub_pool, f"{request}: invalid address subpool")
        family_v6 = v6 if subnet is None else subnet.version == 6
        if v6 and not family_v6:
            raise InvalidParameter(f"{request}: invalid address pool: an IPv6 one was asked for")
        address_space = self._space(space, family_v6)
        if subnet is None or subnet.network_address.is_unspecified:
            if ip_range is not None:
                raise InvalidParameter(f"{request}: invalid address subpool: it needs a pool")
            size = subnet.prefixlen if subnet else 0
            lease = address_space.request_any(size, _excluded(exclude, family_v6))
        else:
            lease = address_space.request(PoolId(space, subnet, _within(ip_range, subnet, request)))
        return PoolLease(str(lease), str(lease.subnet))

    def release_pool(self, pool_id: str) -> None:
        self._space_of(pool_id).release(pool_id)

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        serial = (options or {}).get(SERIAL) == "true"
        wanted = _address(address) if address else None
        return self._space_of(pool_id).request_address(pool_id, wanted, serial)

    def release_address(self, pool_id: str, address: str) -> None:
        self._space_of(pool_id).release_address(pool_id, _address(address))

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        self._space_of(pool_id).restore(PoolId.parse(pool_id))

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        self._space_of(pool_id).restore_address(pool_id, _address(address))

    def pool_status(self, pool_id: str) -> PoolStatus:
        return self._space_of(pool_id).status(pool_id)

    def _space(self, name: str, v6: bool) -> AddressSpace:
        if not name:
            raise InvalidParameter("invalid address space: it has no name")
        try:
            return self._spaces[name, v6]
        except KeyError:
            raise InvalidParameter(f"cannot find address space {name}") from None

    def _space_of(self, pool_id: str) -> AddressSpace:
        name, separator, subnet = pool_id.partition("/")
        if not separator:
            raise InvalidParameter(f"invalid pool id: {pool_id}")
        return self._space(name, ":" in subnet)


def _parse(text: str, complaint: str) -> Subnet | None:
    try:
        return parse_cidr(text).network if text else None
    except ValueError:
        raise InvalidParameter(f"{complaint}: invalid CIDR block notation") from None


def _within(ip_range: Subnet | None, subnet: Subnet, request: str) -> Subnet | None:
    """An ip-range bigger than its subnet means the whole subnet, as in Docker."""
    if ip_range is None:
        return None
    if ip_range.version != subnet.version:
        raise InvalidParameter("pool and subpool are of incompatible address families")
    if not subnet.overlaps(ip_range):
        raise InvalidParameter(f"{request}: invalid address subpool: it is not in the pool")
    return max(ip_range, subnet, key=lambda each: each.prefixlen)


def _excluded(exclude: Sequence[str], v6: bool) -> list[Subnet]:
    """A default route excludes nothing: it says where everything else goes."""
    subnets = [
        _parse(text if "/" in text else f"{text}/{128 if ':' in text else 32}", text) for text in exclude
    ]
    return [subnet for subnet in subnets if subnet and subnet.prefixlen and (subnet.version == 6) == v6]


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError:
        raise InvalidParameter(f"invalid address: {text}") from None
