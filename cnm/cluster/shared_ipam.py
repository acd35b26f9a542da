"""The default IPAM of networks that every host of a cluster has: pools and addresses are claimed in etcd.

A claim is a key that nobody else has made: the transaction that fails says whose it is. Where the choice is ours it
starts at a random address: hosts that all take the lowest free one would collide at each. What was claimed by this
host is known here too, so that whatever could not be given back is found and given back later.
"""

from __future__ import annotations

import itertools
import logging
import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

import msgspec

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import (
    Ambiguous,
    Compare,
    Delete,
    Denied,
    Etcd,
    EtcdError,
    Get,
    Outcome,
    Put,
    absent,
    exists,
    holds,
    unchanged,
)
from cnm.cluster.records import Claim, SharedPool
from cnm.errors import Conflict, InvalidParameter, NotFound
from cnm.ipam.cidr import Address, Subnet, parse_address, parse_cidr, span
from cnm.ipam.contract import (
    AUXILIARY,
    ENDPOINT_NAME,
    GATEWAY,
    REQUEST_ADDRESS_TYPE,
    SERIAL,
    AddressInUse,
    AddressOutOfRange,
    AddressSpaces,
    IpamCapabilities,
    PoolExhausted,
    PoolLease,
    PoolOverlap,
    PoolStatus,
)
from cnm.ipam.defaults import GLOBAL_POOLS, parse_pools, ula_pool
from cnm.ipam.pools import AddressSpace, PoolId

SPACES = AddressSpaces("LocalDefault", "GlobalDefault")
_GUESSES = 8
"""Random addresses before all claims of the subnet are read."""
_TRIES = 64
"""Where others take what we were about to take."""
_SATURATED = 2**64 - 1

log = logging.getLogger(__name__)


class SharedIpam:
    """Implements `Ipam`; thread-safe. Every call but `restore_…` may raise EtcdError."""

    name = "default"

    def __init__(
        self, etcd: Callable[[], Etcd], node: Callable[[], str], avoid: Callable[[], Sequence[str]]
    ) -> None:
        """`etcd` raises where this host is in no cluster; `avoid` are CIDR texts that no pool may touch."""
        self._etcd = etcd
        self._node = node
        self._avoid = avoid
        self._lock = threading.Lock()
        self._held: set[tuple[str, str]] = set()
        """(subnet, address) of what this host's endpoints have."""
        self._trying: Counter[tuple[str, str]] = Counter()
        """How many are about to have it: threads that try the same address do not know of each other."""
        self._seed = ""
        self.doubted: Callable[[], None] = lambda: None
        """Called when something could not be given back, or nobody knows: `give_back_strangers` is to be called."""

    def default_address_spaces(self) -> AddressSpaces:
        return SPACES

    def capabilities(self) -> IpamCapabilities:
        return IpamCapabilities()

    # Pools

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
        wanted = _wanted(space, pool, sub_pool)
        for _ in range(_TRIES):
            taken = self._etcd().list(keys.POOLS_CHANGED)
            changed = next((i.mod_revision for i in taken.items if i.key == keys.POOLS_CHANGED), 0)
            others = [i.value for i in self._etcd().list(keys.POOLS).items]
            lease = self._free(space, wanted, pool, v6, others, exclude)
            record = records.encode(SharedPool(id=str(lease), node=self._node()))
            outcome = self._etcd().transact(
                [unchanged(keys.POOLS_CHANGED, changed)],
                [Put(keys.POOLS_CHANGED, self._node().encode()), Put(_pool_key(lease), record)],
            )
            if outcome.succeeded:
                return PoolLease(str(lease), str(lease.subnet))
        raise Conflict("the cluster's pools change faster than one can be taken: try again")

    def _free(
        self,
        space: str,
        wanted: PoolId | None,
        pool: str,
        v6: bool,
        others: Iterable[bytes],
        exclude: Sequence[str],
    ) -> PoolId:
        """Raises PoolOverlap, PoolsExhausted."""
        v6 = v6 if wanted is None else wanted.subnet.version == 6
        pools = parse_pools((*GLOBAL_POOLS, ula_pool(self._cluster_id())))[v6]
        known = AddressSpace(space, v6, pools)
        for raw in others:
            taken = PoolId.parse(records.decode(raw, SharedPool).id)
            if (taken.subnet.version == 6) == v6:
                known.restore(taken)
        avoided = [parse_cidr(text).network for text in (*exclude, *self._avoid())]
        avoided = [subnet for subnet in avoided if (subnet.version == 6) == v6]
        if wanted is not None:
            _check_apart(wanted.subnet, avoided)
            return known.request(wanted)
        size = parse_cidr(pool).network.prefixlen if pool else 0
        return known.request_any(size, avoided)

    def _cluster_id(self) -> str:
        """What the cluster's IPv6 pool is derived from."""
        if not self._seed:
            found = self._etcd().get(keys.CLUSTER)
            self._seed = records.decode(found.value, records.Cluster).id if found else ""
        return self._seed

    def release_pool(self, pool_id: str) -> None:
        """One that is gone already is no error: a network's deletion takes its pools along."""
        lease = PoolId.parse(pool_id)
        self._etcd().transact((), [Put(keys.POOLS_CHANGED, self._node().encode()), Delete(_pool_key(lease))])

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        """Nothing: etcd keeps it."""

    def pool_status(self, pool_id: str) -> PoolStatus | None:
        lease = PoolId.parse(pool_id)
        try:
            claimed = self._claimed(lease.subnet, stale=True)
        except (EtcdError, Denied):
            return None
        first, last = span(lease.ip_range or lease.subnet)
        taken = claimed | _reserved(lease.subnet)
        free = last - first + 1 - sum(first <= number <= last for number in taken)
        return PoolStatus(min(len(taken), _SATURATED), min(free, _SATURATED))

    # Addresses

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        options = options or {}
        lease = PoolId.parse(pool_id)
        shared = _is_networks(options)
        claim = Claim(
            node="" if shared else self._node(),
            owner=f"{options.get(ENDPOINT_NAME, '')}~{secrets.token_hex(8)}",
        )
        if address:
            parsed = _parsed(address, lease.subnet)
            address, number = str(parsed), int(parsed)
            if number in _reserved(lease.subnet):
                raise AddressInUse(f"Address already in use: {address} is reserved in {lease.subnet}")
            holder = self._claim(lease, number, claim)
            if holder is not None:
                where = f" by {_who(holder)}" if _who(holder) else ""
                raise AddressInUse(f"Address already in use: {address} on {lease.subnet}{where}")
            return f"{address}/{lease.subnet.prefixlen}"
        for number in self._candidates(lease, shared or options.get(SERIAL) == "true"):
            if self._claim(lease, number, claim) is None:
                return f"{_text(lease.subnet, number)}/{lease.subnet.prefixlen}"
        raise PoolExhausted(f"no available addresses on this pool: {lease.subnet}")

    def _candidates(self, lease: PoolId, serial: bool) -> Iterator[int]:
        """Numbers of addresses that may be free: some at random, then all that are, from a random one on.

        Serial: from the lowest free one on.
        """
        first, last = span(lease.ip_range or lease.subnet)
        never = _reserved(lease.subnet)
        if not serial and last - first > _GUESSES:
            for _ in range(_GUESSES):
                if (number := random.randint(first, last)) not in never:
                    yield number
        for _ in range(_TRIES):
            taken = self._claimed(lease.subnet) | never
            start = first if serial else random.randint(first, last)
            found = _first_free(start, last, taken)
            if found is None:
                found = _first_free(first, last, taken)
            if found is None:
                return
            yield found

    def _claim(self, lease: PoolId, number: int, claim: Claim) -> Claim | None:
        """None where it is ours now, else whose it is. Raises NotFound where the pool is gone."""
        address = _text(lease.subnet, number)
        key = keys.address(str(lease.subnet), address)
        value = records.encode(claim)
        held = (str(lease.subnet), address)
        with self._lock:
            self._trying[held] += 1
        try:
            outcome = self._transact(
                [absent(key), exists(_pool_key(lease))], [Put(key, value)], [Get(key), Get(_pool_key(lease))]
            )
            (found, pool) = ([], []) if outcome.succeeded else outcome.found
            holder = records.decode(found[0].value, Claim) if found else Claim()
            if outcome.succeeded or holder == claim:
                self._hold(held, claim)
                return None
        except BaseException:
            self.doubted()
            raise
        finally:
            with self._lock:
                self._trying[held] -= 1
                self._trying += Counter()  # without those that nobody tries
        if not found and not pool:
            raise NotFound(f"pool {lease.subnet} is not the cluster's any more: its network was deleted")
        return holder

    def _transact(
        self, conditions: Sequence[Compare], then: Sequence[Put], otherwise: Sequence[Get]
    ) -> Outcome:
        """A claim bears a mark of its own: made again after an answer that was lost, it is found and known for ours."""
        try:
            return self._etcd().transact(conditions, then, otherwise)
        except Ambiguous:
            return self._etcd().transact(conditions, then, otherwise)

    def _hold(self, held: tuple[str, str], claim: Claim) -> None:
        """What is a network's own is not this host's: it goes with the network."""
        if claim.node:
            with self._lock:
                self._held.add(held)

    def release_address(self, pool_id: str, address: str) -> None:
        """What cannot be told now is found by `give_back_strangers`."""
        lease = PoolId.parse(pool_id)
        address = str(_parsed(address, lease.subnet))
        key = keys.address(str(lease.subnet), address)
        with self._lock:
            self._held.discard((str(lease.subnet), address))
        try:
            found = self._etcd().get(key)
            if found is not None and self._is_given_back_here(found.value):
                self._etcd().transact([holds(key, found.value)], [Delete(key)])
        except BaseException:
            self.doubted()
            raise

    def _is_given_back_here(self, value: bytes) -> bool:
        """A network's own addresses are given back by whoever deletes it, others by their host only."""
        return records.decode(value, Claim).node in ("", self._node())

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        """Known again; etcd has kept the claim."""
        if _is_networks(options or {}):
            return
        with self._lock:
            self._held.add((str(PoolId.parse(pool_id).subnet), address))

    def _claimed(self, subnet: Subnet, *, stale: bool = False) -> set[int]:
        prefix = keys.addresses(str(subnet))
        items = self._etcd().list(prefix, stale=stale).items
        return {int(parse_address(item.key.removeprefix(prefix))) for item in items}

    # Agreement with etcd

    def give_back_strangers(self) -> int:
        """Claims in this host's name that nothing here knows of go; how many there were."""
        count = 0
        mine = self._node()
        for item in self._etcd().list(keys.ADDRESSES).items:
            try:
                claim = records.decode(item.value, Claim)
            except msgspec.DecodeError:
                continue
            subnet, _, address = item.key.removeprefix(keys.ADDRESSES).partition("/")
            with self._lock:
                held = subnet.replace("_", "/"), address
                known = held in self._held or held in self._trying
            if claim.node == mine and not known:
                self._etcd().transact([unchanged(item.key, item.mod_revision)], [Delete(item.key)])
                count += 1
        return count

    def claim_again(self) -> tuple[int, list[str]]:
        """(how many claims of this host were lost and are made again, addresses that somebody else claims)."""
        with self._lock:
            held = sorted(self._held)
        count, clashes = 0, []
        for subnet, group in itertools.groupby(held, key=itemgetter(0)):
            there = {item.key: item.value for item in self._etcd().list(keys.addresses(subnet)).items}
            for _, address in group:
                value = there.get(keys.address(subnet, address))
                if value is None:
                    count += self._make_again(subnet, address)
                elif records.decode(value, Claim).node not in ("", self._node()):
                    clashes.append(address)
        return count, clashes

    def _make_again(self, subnet: str, address: str) -> bool:
        """Unless it was given back, or is claimed, by now."""
        with self._lock:
            if (subnet, address) not in self._held:
                return False
        key = keys.address(subnet, address)
        value = records.encode(Claim(node=self._node(), owner=secrets.token_hex(8)))
        made = self._etcd().transact([absent(key)], [Put(key, value)]).succeeded
        if made:
            log.warning("the claim of address %s was lost: made again", address)
        return made


def _is_networks(options: Mapping[str, str]) -> bool:
    """Whether an address is the network's own, and no endpoint's."""
    return options.get(REQUEST_ADDRESS_TYPE) in (GATEWAY, AUXILIARY)


def _wanted(space: str, pool: str, sub_pool: str) -> PoolId | None:
    """The pool asked for, None for any. Raises InvalidParameter."""
    if space not in SPACES:
        raise InvalidParameter(
            f"cannot find address space {space}" if space else "invalid address space: it has no name"
        )
    request = f'failed to parse pool request for address space "{space}" pool "{pool}" subpool "{sub_pool}"'
    try:
        subnet = parse_cidr(pool).network if pool else None
    except ValueError:
        raise InvalidParameter(f"{request}: invalid address pool: invalid CIDR block notation") from None
    try:
        ip_range = parse_cidr(sub_pool).network if sub_pool else None
    except ValueError:
        raise InvalidParameter(f"{request}: invalid address subpool: invalid CIDR block notation") from None
    if subnet is None or subnet.network_address.is_unspecified:
        if ip_range is not None:
            raise InvalidParameter(f"{request}: invalid address subpool: it needs a pool")
        return None
    if ip_range is not None and (ip_range.version != subnet.version or not subnet.overlaps(ip_range)):
        raise InvalidParameter(f"{request}: invalid address subpool: it is not in the pool")
    if ip_range is not None:
        ip_range = max(ip_range, subnet, key=lambda each: each.prefixlen)
    return PoolId(space, subnet, ip_range)


def _check_apart(subnet: Subnet, avoided: Iterable[Subnet]) -> None:
    for other in avoided:
        if other.prefixlen and subnet.overlaps(other):
            raise PoolOverlap(
                f"subnet {subnet} overlaps with {other}, which hosts of the cluster are on: choose another subnet"
            )


def _pool_key(lease: PoolId) -> str:
    return keys.pool("/".join(str(part) for part in lease[1:] if part is not None))


def _reserved(subnet: Subnet) -> frozenset[int]:
    """As the local IPAM's: network and broadcast address, in IPv6 the subnet-router anycast address."""
    first, last = span(subnet)
    if subnet.version == 6:
        return frozenset({first})
    return frozenset({first, last}) if subnet.prefixlen < 31 else frozenset()


def _first_free(first: int, last: int, taken: Collection[int]) -> int | None:
    return next((n for n in range(first, min(last, first + len(taken)) + 1) if n not in taken), None)


def _parsed(text: str, subnet: Subnet) -> Address:
    try:
        address = parse_address(text)
    except ValueError:
        raise InvalidParameter(f"invalid address: {text}") from None
    if address not in subnet:
        raise AddressOutOfRange(f"requested address is out of range: {text} is not in {subnet}")
    return address


def _text(subnet: Subnet, number: int) -> str:
    return str(subnet[number - int(subnet.network_address)])


def _who(claim: Claim) -> str:
    """Who has an address, in words."""
    owner = claim.owner.partition("~")[0]
    if not claim.node:
        return ""
    return f"endpoint {owner} of host {claim.node}" if owner else f"host {claim.node}"
