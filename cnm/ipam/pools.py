"""The subnets of one address space and family: which are allocated, and which comes next.

One lock per space; whatever is done under it takes microseconds. A subnet can be leased several times with
different ip-ranges; the leases share its addresses, and it is free again when the last lease is returned.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from cnm.errors import InvalidParameter, NotFound
from cnm.ipam.addresses import Addresses
from cnm.ipam.cidr import Address, Subnet, parse_cidr, span
from cnm.ipam.contract import AddressOutOfRange, PoolOverlap, PoolsExhausted, PoolStatus
from cnm.ipam.runs import Runs


class PoolId(NamedTuple):
    """Names a lease; as text "space/subnet" or "space/subnet/ip-range"."""

    space: str
    subnet: Subnet
    ip_range: Subnet | None = None

    def __str__(self) -> str:
        return "/".join(str(part) for part in self if part is not None)

    @classmethod
    def parse(cls, text: str) -> PoolId:
        """Raises InvalidParameter."""
        space, *parts = text.split("/")
        try:
            if not space or len(parts) not in (2, 4):
                raise ValueError("wrong number of parts")
            subnet = parse_cidr("/".join(parts[:2])).network
            ip_range = parse_cidr("/".join(parts[2:])).network if parts[2:] else None
            if ip_range is not None and not ip_range.subnet_of(subnet):  # type: ignore[arg-type]
                raise ValueError("ip-range outside the subnet")
        except (ValueError, TypeError):  # TypeError: of different families
            raise InvalidParameter(f"invalid pool id: {text}") from None
        return cls(space, subnet, ip_range)


class AddressPool(NamedTuple):
    """Subnets of prefix length `size` are cut from `base`, lowest first."""

    base: Subnet
    size: int


@dataclass
class _Holding:
    """An allocated subnet and the ids of its leases."""

    addresses: Addresses
    leases: set[str] = field(default_factory=set)


class _Lease(NamedTuple):
    """`first`..`last` is where addresses are issued from."""

    holding: _Holding
    first: int
    last: int


class AddressSpace:
    """Safe for threads. Pool ids are text, subnets and addresses are objects of this space's family."""

    def __init__(self, name: str, v6: bool, pools: Sequence[AddressPool]) -> None:
        """`pools` are used in the order given.

        One that lies inside another is left out: subnets cut from both would be the same ones.
        """
        self.name = name
        self._v6 = v6
        self._pools = [pool for i, pool in enumerate(pools) if not _inside_another(i, pools)]
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        self._holdings: dict[Subnet, _Holding] = {}
        self._covered = Runs()
        self._total = 0
        """Sum of the sizes of all holdings: more than what they cover where some overlap."""

    def request_any(self, size: int, exclude: Iterable[Subnet]) -> PoolId:
        """Allocate the first free subnet of prefix length `size`, 0 for each pool's own size.

        Raises InvalidParameter where no pool has subnets of that size, PoolsExhausted.
        """
        pools = [AddressPool(pool.base, size or pool.size) for pool in self._pools]
        pools = [pool for pool in pools if pool.base.prefixlen <= pool.size <= pool.base.max_prefixlen]
        if not pools:
            asked = f"has a subnet of size /{size}" if size else "is configured"
            raise InvalidParameter(f"invalid address pool: no default address pool of {self._what()} {asked}")
        excluded = Runs()
        for subnet in exclude:
            excluded.add(*span(subnet))
        with self._lock:
            for pool in pools:
                start = self._first_gap_locked(pool, excluded)
                if start is not None:
                    return self._lease_locked(PoolId(self.name, self._subnet(start, pool.size)))
        raise PoolsExhausted(
            f"all predefined address pools have been fully subnetted: {self._what()}: "
            "give a subnet, remove unused networks or add default address pools"
        )

    def request(self, pool_id: PoolId) -> PoolId:
        """Allocate a given subnet. Raises PoolOverlap.

        With an ip-range, Docker refuses only the same subnet with the same range (moby issue 46756); networks
        that share a subnet depend on it.
        """
        with self._lock:
            if pool_id.ip_range is None:
                taken = self._covered.overlaps(*span(pool_id.subnet))
            else:
                taken = str(pool_id) in self._leases
            if taken:
                raise self._overlap_locked(pool_id)
            return self._lease_locked(pool_id)

    def restore(self, pool_id: PoolId) -> None:
        """Allocate a subnet again that was allocated before a restart."""
        with self._lock:
            if str(pool_id) not in self._leases:
                self._lease_locked(pool_id)

    def release(self, pool_id: str) -> None:
        """Raises InvalidParameter where there is no such lease."""
        with self._lock:
            lease = self._leases.pop(pool_id, None)
            if lease is None:
                raise InvalidParameter(f"address space does not contain specified address pool: {pool_id}")
            lease.holding.leases.discard(pool_id)
            if not lease.holding.leases:
                self._drop_locked(lease.holding.addresses.subnet)

    def request_address(self, pool_id: str, address: Address | None, serial: bool) -> str:
        """Raises NotFound, AddressInUse, AddressOutOfRange, PoolExhausted."""
        with self._lock:
            lease = self._find_locked(pool_id)
            addresses = lease.holding.addresses
            if address is None:
                return addresses.cidr(addresses.take_next(lease.first, lease.last, serial))
            number = self._number(address, addresses)
            addresses.take(number)
            return addresses.cidr(number)

    def restore_address(self, pool_id: str, address: Address) -> None:
        """Raises NotFound, AddressOutOfRange."""
        with self._lock:
            addresses = self._find_locked(pool_id).holding.addresses
            addresses.restore(self._number(address, addresses))

    def release_address(self, pool_id: str, address: Address) -> None:
        """Raises NotFound, AddressOutOfRange."""
        with self._lock:
            addresses = self._find_locked(pool_id).holding.addresses
            addresses.give_back(self._number(address, addresses))

    def status(self, pool_id: str) -> PoolStatus:
        """Raises NotFound."""
        with self._lock:
            lease = self._find_locked(pool_id)
            return lease.holding.addresses.status(lease.first, lease.last)

    def _first_gap_locked(self, pool: AddressPool, excluded: Runs) -> int | None:
        start, last = span(pool.base)
        count = 1 << (pool.base.max_prefixlen - pool.size)
        while True:
            free = self._covered.first_gap(start, last, count)
            clear = None if free is None else excluded.first_gap(free, last, count)
            if clear is None or clear == free:
                return clear
            start = clear

    def _lease_locked(self, pool_id: PoolId) -> PoolId:
        subnet, key = pool_id.subnet, str(pool_id)
        holding = self._holdings.get(subnet)
        if holding is None:
            holding = self._holdings[subnet] = _Holding(Addresses(subnet))
            self._covered.add(*span(subnet))
            self._total += subnet.num_addresses
        holding.leases.add(key)
        self._leases[key] = _Lease(holding, *span(pool_id.ip_range or subnet))
        return pool_id

    def _drop_locked(self, subnet: Subnet) -> None:
        del self._holdings[subnet]
        self._covered.remove(*span(subnet))
        self._total -= subnet.num_addresses
        if self._covered.size != self._total:  # it overlapped another one: the shared part is still allocated
            for other in self._holdings:
                self._covered.add(*span(other))

    def _overlap_locked(self, pool_id: PoolId) -> PoolOverlap:
        asked = pool_id.subnet
        others = " and ".join(str(s) for s in self._holdings if s.overlaps(asked))
        return PoolOverlap(
            f"invalid pool request: Pool overlaps with other one on this address space: {asked} with {others}"
        )

    def _find_locked(self, pool_id: str) -> _Lease:
        lease = self._leases.get(pool_id)
        if lease is None:
            PoolId.parse(pool_id)
            raise NotFound(f"cannot find address pool for poolID:{pool_id}")
        return lease

    def _number(self, address: Address, addresses: Addresses) -> int:
        if address.version != addresses.subnet.version:
            raise AddressOutOfRange(
                f"requested address is out of range: {address} is not in {addresses.subnet}"
            )
        return int(address)

    def _subnet(self, start: int, size: int) -> Subnet:
        return IPv6Network((start, size)) if self._v6 else IPv4Network((start, size))

    def _what(self) -> str:
        return f"{self.name} ({'IPv6' if self._v6 else 'IPv4'})"


def _inside_another(index: int, pools: Sequence[AddressPool]) -> bool:
    base = pools[index].base
    return any(
        other.base.supernet_of(base) and (other.base != base or i < index)  # type: ignore[arg-type]
        for i, other in enumerate(pools)
        if i != index
    )
