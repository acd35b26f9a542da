"""Networks of the whole cluster: made and deleted by any host, each whole or not at all.

A network is deleted only when no host has an address of it: its pools are closed first, and no address can be claimed
without them, so that nobody comes in while it is looked who is there. Their subnets are free when everything is gone.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import (
    Ambiguous,
    Delete,
    Denied,
    Etcd,
    EtcdError,
    Event,
    Get,
    KeyValue,
    Operation,
    Outcome,
    Put,
    absent,
    exists,
    unchanged,
)
from cnm.cluster.mirror import differing
from cnm.cluster.records import Claim, SharedNetwork, SharedPool
from cnm.errors import Conflict, Forbidden, Unavailable
from cnm.ipam.pools import PoolId

FIRST_VNI, LAST_VNI = 4096, (1 << 24) - 1
"""Docker's range of VNIs that are chosen for a network; any from 1 on can be asked for."""
_TRIES = 16

log = logging.getLogger(__name__)


def create(etcd: Etcd, network: SharedNetwork) -> SharedNetwork:
    """The network with its VNI, one of the cluster's choice where it has 0. Raises Conflict for what is taken."""
    for _ in range(_TRIES):
        vni = network.vni or random.randint(FIRST_VNI, LAST_VNI)
        chosen = msgspec.structs.replace(network, vni=vni)
        try:
            outcome = _claim(etcd, chosen)
        except Ambiguous:
            outcome = _claim(etcd, chosen)
        if outcome.succeeded:
            return chosen
        same, named, numbered = outcome.found
        if same and records.decode(same[0].value, SharedNetwork) == chosen:
            return chosen  # the answer to the same transaction was lost
        if same or named:
            raise Conflict(f"network with name {chosen.name} already exists in the cluster")
        if numbered and network.vni:
            other = numbered[0].value.decode()
            raise Conflict(f"VNI {vni} is network {_name_of(etcd, other)}'s already: choose another one")
    raise Unavailable("no free VNI was found: try again")


def _claim(etcd: Etcd, network: SharedNetwork) -> Outcome:
    key, name, number = keys.network(network.id), keys.network_name(network.name), keys.vni(network.vni)
    ident = network.id.encode()
    return etcd.transact(
        [absent(key), absent(name), absent(number)],
        [Put(key, records.encode(network)), Put(name, ident), Put(number, ident)],
        [Get(key), Get(name), Get(number)],
    )


def _name_of(etcd: Etcd, network_id: str) -> str:
    found = etcd.get(keys.network(network_id))
    return records.decode(found.value, SharedNetwork).name if found else network_id[:12]


def change(
    etcd: Etcd, network_id: str, changed: Callable[[SharedNetwork], SharedNetwork]
) -> SharedNetwork | None:
    """Apply `changed` to the record as it is; None where there is no such network."""
    for _ in range(_TRIES):
        found = etcd.get(keys.network(network_id))
        if found is None:
            return None
        after = changed(records.decode(found.value, SharedNetwork))
        outcome = etcd.transact(
            [unchanged(found.key, found.mod_revision)],
            [Put(found.key, records.encode_over(found.value, after))],
        )
        if outcome.succeeded:
            return after
    raise Conflict(f"network {network_id[:12]} is changed by others all the time: try again")


def delete(etcd: Etcd, network_id: str) -> None:
    """With everything of it; nothing for one that is gone. Raises Forbidden where a host has an endpoint in it."""
    found = etcd.get(keys.network(network_id))
    if found is None:
        return
    network = records.decode(found.value, SharedNetwork)
    _check_unused(etcd, network)
    if not etcd.transact([exists(found.key)], _closing(network)).succeeded:
        return
    try:
        _check_unused(etcd, network)
        _delete_closed(etcd, network)
    except BaseException:
        with suppress(EtcdError, Denied):
            etcd.transact([exists(found.key)], _opening(network))
        raise


def _closing(network: SharedNetwork) -> list[Operation]:
    """Nobody gets an address any more, and nobody the subnets yet."""
    operations: list[Operation] = []
    for pool_id in _pool_ids(network):
        operations += [Delete(_pool_key(pool_id)), _pool(pool_id, _closed_key(pool_id))]
    return operations


def _opening(network: SharedNetwork) -> list[Operation]:
    operations: list[Operation] = []
    for pool_id in _pool_ids(network):
        operations += [_pool(pool_id, _pool_key(pool_id)), Delete(_closed_key(pool_id))]
    return operations


def _delete_closed(etcd: Etcd, network: SharedNetwork) -> None:
    """All of it in one, as long as it is closed. Raises Conflict where another host opened it again."""
    closed = [_closed_key(pool_id) for pool_id in _pool_ids(network)]
    still_closed = [exists(key) for key in (keys.network(network.id), *closed)]
    for _ in range(_TRIES):
        changed = etcd.get(keys.POOLS_CHANGED)
        outcome = etcd.transact(
            [*still_closed, unchanged(keys.POOLS_CHANGED, changed.mod_revision if changed else 0)],
            [
                *(Delete(key) for key in (keys.network(network.id), *closed)),
                Delete(keys.network_name(network.name)),
                Delete(keys.vni(network.vni)),
                *(Delete(keys.addresses(subnet), prefix=True) for subnet in _unshared(etcd, network)),
            ],
        )
        if outcome.succeeded or etcd.get(keys.network(network.id)) is None:
            return
    raise Conflict(f"network {network.name} is changed by others all the time: try again")


def _check_unused(etcd: Etcd, network: SharedNetwork) -> None:
    users: Counter[str] = Counter()
    for pool_id in _pool_ids(network):
        lease = PoolId.parse(pool_id)
        for item in etcd.list(keys.addresses(str(lease.subnet))).items:
            if node := records.decode(item.value, Claim).node:
                users[node] += 1
    for item in etcd.list(keys.endpoints(network.id)).items:
        node = item.key.removeprefix(keys.endpoints(network.id)).partition("/")[0]
        users[node] = max(users[node], 1)
    if users:
        listed = ", ".join(sorted(users)[:10])
        raise Forbidden(
            f"network {network.name} is in use on {listed}: disconnect or remove its endpoints there first, or "
            "cnmctl cluster rm a host that is gone for good"
        )


def _pool_ids(network: SharedNetwork) -> list[str]:
    return [pool.pool_id for pool in network.pools] if network.ipam_driver == "default" else []


def _unshared(etcd: Etcd, network: SharedNetwork) -> list[str]:
    """Subnets that no other network's pool is of."""
    own = {_closed_key(pool_id) for pool_id in _pool_ids(network)}
    others = {
        str(PoolId.parse(records.decode(item.value, SharedPool).id).subnet)
        for item in etcd.list(keys.POOLS).items
        if item.key not in own
    }
    subnets = {str(PoolId.parse(pool_id).subnet) for pool_id in _pool_ids(network)}
    return sorted(subnets - others)


def _pool(pool_id: str, key: str) -> Put:
    return Put(key, records.encode(SharedPool(id=pool_id)))


def _pool_key(pool_id: str) -> str:
    return keys.pool(pool_id.partition("/")[2])


def _closed_key(pool_id: str) -> str:
    """Where a pool's record is while its network is deleted: the subnet is taken, and no address can be claimed."""
    return keys.closed_pool(pool_id.partition("/")[2])


class NetworkList:
    """All networks of the cluster, as a mirror's handler; `changed` hears of each (None: it is gone)."""

    def __init__(self, changed: Callable[[str, SharedNetwork | None], None]) -> None:
        self._changed = changed
        self.known: dict[str, SharedNetwork] = {}
        """By id."""

    def reset(self, items: Sequence[KeyValue]) -> None:
        found = {n.id: n for item in items if (n := _parse(item.key, item.value))}
        for ident in self.known.keys() - found.keys():
            self._put(ident, None)
        for ident, network in found.items():
            self._put(ident, network)

    def unlike(self, items: Sequence[KeyValue]) -> dict[str, int]:
        there = {item.key: (_parse(item.key, item.value), item.mod_revision) for item in items}
        known = {keys.network(ident): network for ident, network in dict(self.known).items()}
        return differing(there, known)

    def change(self, events: Sequence[Event]) -> None:
        for event in events:
            network = _parse(event.key, event.value) if event.value is not None else None
            self._put(event.key.removeprefix(keys.NETWORKS), network)

    def _put(self, ident: str, network: SharedNetwork | None) -> None:
        before = self.known.pop(ident, None)
        if network is not None:
            self.known[ident] = network
        if network != before:
            self._changed(ident, network)


def _parse(key: str, value: bytes) -> SharedNetwork | None:
    try:
        return records.decode(value, SharedNetwork)
    except msgspec.DecodeError as error:
        log.error("%s is no network's record: %s", key, error)
        return None
