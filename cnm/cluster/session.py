"""This node's part of etcd: its own record and its endpoints', under a lease, for as long as it lives.

What is to be there is remembered, so that whatever happens (a lease that ran out, etcd away for an hour, a departure
that could not be told) it is made so again as soon as somebody answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import (
    Delete,
    Denied,
    Etcd,
    EtcdError,
    LeaseKeeper,
    Operation,
    Put,
    unchanged,
)
from cnm.cluster.records import Node, SharedEndpoint
from cnm.errors import Unavailable

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
_BATCH = 100
"""Operations in a transaction; etcd allows 128."""
_GRANT_SECONDS = 3.0
"""A member lets a node write a network's endpoints within some milliseconds of its taking part; it may be busy, and
another one may take that back until it has heard of it."""
_FIRST_LOOK_SECONDS = 0.002
_PAUSES = (0.2, 5.0)
"""Seconds before what could not be told is told again, the first and the longest."""


class Session:
    """Thread-safe. `renewed` is called after everything was put (again), in a thread of the session's."""

    def __init__(
        self,
        etcd: Etcd,
        node: Node,
        renewed: Callable[[], None],
        contested: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """`contested` says which addresses of this host somebody else claims: a host that comes back with what it knew
        long ago. It raises EtcdError, Denied."""
        self._etcd = etcd
        self._node = node
        self._renewed = renewed
        self._contested = contested
        self._lock = threading.Lock()
        self._lease: LeaseKeeper | None = None
        self._networks: set[str] = set()
        """Ids of those this node takes part in."""
        self._endpoints: dict[str, bytes] = {}
        """What is to be there, by key."""
        self._held_back: frozenset[str] = frozenset()
        """Keys of endpoints whose addresses are contested: packets to them belong to somebody else."""
        self._unsure: set[str] = set()
        """Keys that are to go, which etcd could not be told."""
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)

    @property
    def node(self) -> Node:
        return self._node

    def start(self) -> None:
        self._lease = self._etcd.keep_lease(LEASE_SECONDS, lambda lease: self._dirty.set())
        self._thread.start()

    def close(self, *, leave: bool = False) -> None:
        """`leave`: what is under the lease goes at once."""
        self._closing.set()
        self._dirty.set()
        if self._lease is None:
            return
        try:
            self._lease.close(revoke=leave)
        except EtcdError as error:
            log.warning("the cluster hears of this host's departure when its lease runs out: %s", error)

    @property
    def is_alive(self) -> bool:
        """Whether the others see this node, as far as is known here."""
        return self._lease is not None and self._lease.id != 0

    def audit(self) -> int:
        """How many of the keys that others must find are not as they should be; all are put again then.

        Raises EtcdError, Denied.
        """
        if self._held_back and self._find_contested() != self._held_back:
            self._dirty.set()
        with self._lock:
            wanted, networks = self._told(), sorted(self._networks)
        wanted[keys.node(self._node.name)] = records.encode(self._node)
        found = self._etcd.get(keys.node(self._node.name))
        there = {found.key: found.value} if found else {}
        for network_id in networks:
            prefix = keys.endpoints_of(network_id, self._node.name)
            there.update((item.key, item.value) for item in self._etcd.list(prefix).items)
        with self._lock:
            now = {**self._told(), keys.node(self._node.name): records.encode(self._node)}
        # What came or went meanwhile is told by whoever made it so.
        wrong = sorted(
            key
            for key in wanted.keys() | there.keys()
            if wanted.get(key) != there.get(key) and wanted.get(key) == now.get(key)
        )
        if wrong and self.is_alive:
            log.warning(
                "the cluster has not what it should of this host: %s; all is told again", ", ".join(wrong[:5])
            )
            self._dirty.set()
        return len(wrong)

    def _told(self) -> dict[str, bytes]:
        """The endpoints that the others are to find, by key; callers hold the lock."""
        return {key: value for key, value in self._endpoints.items() if key not in self._held_back}

    def _find_contested(self) -> frozenset[str]:
        """Keys of endpoints that have a contested address. Raises EtcdError, Denied."""
        contested = frozenset(self._contested())
        if not contested:
            return frozenset()
        with self._lock:
            endpoints = dict(self._endpoints)
        return frozenset(
            key for key, value in endpoints.items() if not contested.isdisjoint(_addresses(value))
        )

    def describe(self, node: Node) -> None:
        """The node's own record has changed. Raises EtcdError; it is told later then."""
        with self._lock:
            self._node = node
            lease = self._lease.id if self._lease else 0
        if lease:
            try:
                self._etcd.put(keys.node(node.name), records.encode(node), lease)
            except BaseException:
                self._dirty.set()
                raise

    def resume(self, endpoints: Iterable[tuple[str, str, bytes]]) -> None:
        """Before `start`: what was there already, as (network's id, endpoint's id, record)."""
        for network_id, endpoint_id, value in endpoints:
            self._networks.add(network_id)
            self._endpoints[keys.endpoint(network_id, self._node.name, endpoint_id)] = value

    def take_part(self, network_id: str) -> None:
        """In a network, before its first endpoint is published. Raises EtcdError."""
        self._etcd.put(keys.participant(self._node.name, network_id), b"{}")
        with self._lock:
            self._networks.add(network_id)

    def part(self, network_id: str) -> None:
        """Its last endpoint is gone. Never fails: it is told later."""
        with self._lock:
            self._networks.discard(network_id)
        self._delete(keys.participant(self._node.name, network_id))

    def publish(self, network_id: str, endpoint_id: str, value: bytes) -> None:
        """The other hosts send packets to it from now on. Raises EtcdError, Unavailable; it is not there then."""
        key = keys.endpoint(network_id, self._node.name, endpoint_id)
        lease = self._lease.id if self._lease else 0
        if not lease:
            raise EtcdError("the cluster does not answer: its other hosts cannot be told; try again later")
        with self._lock:
            self._endpoints[key] = value
            self._held_back -= {key}
            self._unsure.discard(key)
        try:
            self._put_when_granted(key, value, lease)
        except BaseException:
            self.withdraw(network_id, endpoint_id)
            raise

    def _put_when_granted(self, key: str, value: bytes, lease: int) -> None:
        deadline, pause = time.monotonic() + _GRANT_SECONDS, _FIRST_LOOK_SECONDS
        while True:
            try:
                self._etcd.put(key, value, lease)
                return
            except Denied:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "no member of the cluster lets this host publish endpoints: see whether cnmd runs on the "
                        "members, with cnmctl cluster status there"
                    ) from None
            time.sleep(pause)
            pause *= 1.5

    def amend(self, network_id: str, endpoint_id: str, value: bytes) -> None:
        """Another record of an endpoint that was published, nothing for one that was not. Never fails, as above."""
        key = keys.endpoint(network_id, self._node.name, endpoint_id)
        with self._lock:
            if key not in self._endpoints:
                return
            self._endpoints[key] = value
            if key in self._held_back:
                return
        lease = self._lease.id if self._lease else 0
        try:
            if lease:
                self._etcd.put(key, value, lease)
        except (EtcdError, Denied) as error:
            log.warning("%s is told later: %s", key, error)
            self._dirty.set()

    def withdraw(self, network_id: str, endpoint_id: str) -> None:
        """The other hosts send it nothing any more. Never fails: it is told later."""
        key = keys.endpoint(network_id, self._node.name, endpoint_id)
        with self._lock:
            self._endpoints.pop(key, None)
        self._delete(key)

    def _delete(self, key: str) -> None:
        try:
            self._etcd.delete(key)
        except (EtcdError, Denied) as error:
            log.warning("%s goes later: %s", key, error)
            with self._lock:
                self._unsure.add(key)
            self._dirty.set()

    # In a thread of its own

    def _run(self) -> None:
        pause = _PAUSES[0]
        while self._dirty.wait() and not self._closing.is_set():
            self._dirty.clear()
            lease = self._lease.id if self._lease else 0
            try:
                if lease:
                    self._put_everything(lease)
                pause = _PAUSES[0]
            except (Denied, Unavailable) as error:
                log.warning("the cluster was not told everything of this host yet: %s", error)
                self._closing.wait(pause)
                pause = min(2 * pause, _PAUSES[1])
                self._dirty.set()

    def _put_everything(self, lease: int) -> None:
        """Under a new lease, or after something could not be told."""
        with self._lock:
            networks, unsure = sorted(self._networks), set(self._unsure)
        for key in unsure:
            self._etcd.delete(key)
        with self._lock:
            self._unsure -= unsure
        self._etcd.put(keys.node(self._node.name), records.encode(self._node), lease)
        self._put_all([Put(keys.participant(self._node.name, each), b"{}") for each in networks])
        self._held_back = self._find_contested()
        for network_id in networks:
            self._put_endpoints(network_id, lease)
        self._drop_strangers()
        self._renewed()

    def _put_endpoints(self, network_id: str, lease: int) -> None:
        prefix = keys.endpoints_of(network_id, self._node.name)
        with self._lock:
            puts = [Put(key, value, lease) for key, value in self._told().items() if key.startswith(prefix)]
        if puts:
            self._put_when_granted(*puts[0])
            self._put_all(puts[1:])

    def _put_all(self, puts: list[Put]) -> None:
        for start in range(0, len(puts), _BATCH):
            operations: list[Operation] = list(puts[start : start + _BATCH])
            self._etcd.transact((), operations)

    def _drop_strangers(self) -> None:
        """What an earlier life of this node left, or went while everything was told."""
        for item in self._etcd.list(keys.participants_of(self._node.name)).items:
            network_id = item.key.rpartition("/")[2]
            for each in self._etcd.list(keys.endpoints_of(network_id, self._node.name)).items:
                with self._lock:
                    stranger = each.key not in self._endpoints or each.key in self._held_back
                if stranger:
                    self._etcd.transact([unchanged(each.key, each.mod_revision)], [Delete(each.key)])
            with self._lock:
                parted = network_id not in self._networks
            if parted:
                self._etcd.transact([unchanged(item.key, item.mod_revision)], [Delete(item.key)])


def _addresses(value: bytes) -> tuple[str, str]:
    """Of an endpoint's record; "" for none."""
    shared = records.decode(value, SharedEndpoint)
    return shared.ipv4, shared.ipv6
