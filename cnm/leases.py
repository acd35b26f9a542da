"""What dockerd holds through our IPAM plugin: given out by the allocator, kept in the store, replayed by dockerd.

A dockerd that starts asks again for every pool and address that it knows (RequiresRequestReplay). What it was given
before its start may be asked for once more; whatever it does not ask for again, because it died before it had noted it
down, can be had by the next one who wants it. A repetition within seconds is taken for the same request sent twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.ipam import AddressInUse, AddressSpaces, Ipam, PoolLease, PoolOverlap
from cnm.ipam.contract import GATEWAY, REQUEST_ADDRESS_TYPE
from cnm.lease import LeasedAddress, LeasedPool
from cnm.store import Store

_REPEATED_SECONDS = 20.0
"""dockerd sends a request again for some 15 s when the connection broke before the answer."""
_SETTLED_SECONDS = 30.0
"""dockerd asks for a pool before it notes its network down."""


class Leases:
    """Of one plugin name. Thread-safe; every change is in the store before it is returned."""

    def __init__(
        self, plugin: str, ipam: Ipam, store: Store, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plugin = plugin
        self._ipam = ipam
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._pools: dict[str, LeasedPool] = {}
        self._addresses: dict[str, dict[str, LeasedAddress]] = {}
        """By pool id and bare address."""
        self._unclaimed: set[str] = set()
        """Ids of what was leased before the present dockerd started, and was not asked for again."""
        self._leased_at: dict[str, float] = {}
        """Ids of pools leased since this process began, and when."""
        self._fresh: dict[str, float] = {}
        """Ids of pools that nothing was done with yet, and when they were leased."""

    def restore(self) -> None:
        """Hold again what the store has, at start-up."""
        with self._lock:
            for pool in self._store.load(LeasedPool):
                if pool.plugin == self._plugin:
                    self._ipam.restore_pool(pool.pool_id, pool.subnet, pool.ip_range)
                    self._pools[pool.pool_id] = pool
                    self._addresses[pool.pool_id] = {}
            for address in self._store.load(LeasedAddress):
                if address.plugin == self._plugin and address.pool_id in self._pools:
                    options = {REQUEST_ADDRESS_TYPE: GATEWAY} if address.gateway else {}
                    self._ipam.restore_address(address.pool_id, address.address, options)
                    self._addresses[address.pool_id][address.address] = address

    def dockerd_started(self) -> None:
        """From now on everything that is held may be asked for once again."""
        with self._lock:
            self._unclaimed = {pool.id for pool in self._pools.values()}
            self._unclaimed |= {a.id for held in self._addresses.values() for a in held.values()}

    def address_spaces(self) -> AddressSpaces:
        return self._ipam.default_address_spaces()

    def pools(self) -> list[LeasedPool]:
        with self._lock:
            return list(self._pools.values())

    def addresses(self) -> list[LeasedAddress]:
        with self._lock:
            return [address for held in self._addresses.values() for address in held.values()]

    def settled_pools(self) -> list[LeasedPool]:
        """The pools that dockerd has had the time to note down."""
        with self._lock:
            return [pool for pool in self.pools() if not self._is_young(pool)]

    def _is_young(self, pool: LeasedPool) -> bool:
        since = self._leased_at.get(pool.id)
        return since is not None and self._clock() - since < _SETTLED_SECONDS

    def request_pool(
        self,
        space: str,
        pool: str,
        ip_range: str,
        options: Mapping[str, str],
        v6: bool,
        exclude: Sequence[str],
    ) -> PoolLease:
        """As `Ipam.request_pool`."""
        with self._lock:
            try:
                lease = self._ipam.request_pool(space, pool, ip_range, options, v6, exclude=exclude)
            except PoolOverlap:
                held = self._held_pool(space, pool, ip_range)
                if held is None:
                    raise
                return PoolLease(held.pool_id, held.subnet)
            leased = LeasedPool(
                plugin=self._plugin, pool_id=lease.pool_id, subnet=lease.subnet, ip_range=ip_range
            )
            try:
                self._store.commit(put=[leased], durable=True)
            except CnmError:
                self._ipam.release_pool(lease.pool_id)
                raise
            self._pools[lease.pool_id] = leased
            self._addresses[lease.pool_id] = {}
            self._fresh[leased.id] = self._leased_at[leased.id] = self._clock()
            return lease

    def _held_pool(self, space: str, pool: str, ip_range: str) -> LeasedPool | None:
        """The pool asked for, if it is held and may be asked for again."""
        for held in self._pools.values():
            same = (held.subnet, held.ip_range) == (pool, ip_range) and held.pool_id.startswith(f"{space}/")
            if same and self._may_have_again(held.id, self._fresh.get(held.id)):
                return held
        return None

    def _may_have_again(self, ident: str, since: float | None) -> bool:
        if ident in self._unclaimed:
            self._unclaimed.discard(ident)
            return True
        return since is not None and self._clock() - since < _REPEATED_SECONDS

    def network_made(self, subnets: Iterable[str]) -> None:
        """A network has these (CIDR texts): whoever asks for one of them now wants another network."""
        wanted = set(subnets)
        with self._lock:
            for pool in self._pools.values():
                if pool.subnet in wanted:
                    self._fresh.pop(pool.id, None)

    def release_pool(self, pool_id: str) -> None:
        """With the addresses that are left in it. Nothing for a pool that is not held: it was released before."""
        with self._lock:
            pool = self._pools.get(pool_id)
            if pool is None:
                return
            addresses = list(self._addresses[pool_id].values())
            self._store.commit(delete=[pool, *addresses], durable=True)
            for address in addresses:
                self._ipam.release_address(pool_id, address.address)
            self._ipam.release_pool(pool_id)
            del self._pools[pool_id], self._addresses[pool_id]
            self._forget(pool.id, *(address.id for address in addresses))

    def request_address(self, pool_id: str, address: str, options: Mapping[str, str]) -> str:
        """CIDR text. Raises NotFound for a pool that is not held, AddressInUse, AddressOutOfRange, PoolExhausted."""
        with self._lock:
            pool = self._known(pool_id)
            try:
                cidr = self._ipam.request_address(pool_id, address, options)
            except AddressInUse:
                held = self._addresses[pool_id].get(address)
                if held is None or not self._may_have_again(held.id, None):
                    raise
                return held.cidr
            gateway = options.get(REQUEST_ADDRESS_TYPE) == GATEWAY
            leased = LeasedAddress(plugin=self._plugin, pool_id=pool_id, cidr=cidr, gateway=gateway)
            try:
                # A power cut takes the containers along; the addresses of networks must outlive it.
                self._store.commit(put=[leased], durable=gateway)
            except CnmError:
                self._ipam.release_address(pool_id, leased.address)
                raise
            self._addresses[pool_id][leased.address] = leased
            self._fresh.pop(pool.id, None)
            return cidr

    def release_address(self, pool_id: str, address: str) -> None:
        """Nothing for what is not held: dockerd says it twice, or says it of a pool that went before."""
        with self._lock:
            held = self._addresses.get(pool_id, {}).get(address)
            if held is None:
                return
            self._store.commit(delete=[held], durable=False)
            self._ipam.release_address(pool_id, address)
            del self._addresses[pool_id][address]
            self._forget(held.id)

    def _forget(self, *idents: str) -> None:
        self._unclaimed.difference_update(idents)
        for ident in idents:
            self._fresh.pop(ident, None)
            self._leased_at.pop(ident, None)

    def _known(self, pool_id: str) -> LeasedPool:
        if not pool_id:
            raise InvalidParameter("a pool's id is missing")
        pool = self._pools.get(pool_id)
        if pool is None:
            raise NotFound(f"cannot find address pool for poolID:{pool_id}")
        return pool
