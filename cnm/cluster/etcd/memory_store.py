"""What the members of an etcd in memory have: keys, their history, and leases by a clock that stands still."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Protocol

from cnm.cluster.etcd.contract import Delete, EtcdError, Event, KeyValue, Operation, Put


class Onlooker(Protocol):
    """A client, which has watches and leases."""

    def look(self) -> None:
        """Something has changed."""


class _Lease:
    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.ends = now + seconds
        self.keys: set[str] = set()


class MemoryStore:
    """What the members have. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.revision = 1
        self.compacted = 0
        self.now = 0.0
        self._quorum = True
        self._keys: dict[str, KeyValue] = {}
        self._history: list[Event] = []
        self._leases: dict[int, _Lease] = {}
        self._lease_numbers = itertools.count(1000)
        self._clients: list[Onlooker] = []

    @property
    def quorum(self) -> bool:
        """Whether the members have a majority: without one nothing changes, and no lease ends."""
        return self._quorum

    @quorum.setter
    def quorum(self, there: bool) -> None:
        with self.lock:
            self._quorum = there
            if there:  # a new leader gives every lease all its time again
                for lease in self._leases.values():
                    lease.ends = self.now + lease.seconds
            self.look()

    def advance(self, seconds: float) -> None:
        """Time passes. Leases that nobody keeps alive run out, unless there is no majority."""
        with self.lock:
            self.now += seconds
            self.look()
            if self._quorum:
                for number in [n for n, lease in self._leases.items() if lease.ends <= self.now]:
                    self.revoke(number)

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`."""
        with self.lock:
            self.compacted = revision
            self._history = [event for event in self._history if event.mod_revision >= revision]

    def revoke(self, lease: int) -> None:
        """Its keys go with it. Nothing happens where there is none."""
        with self.lock:
            gone = self._leases.pop(lease, None)
            if gone is not None and gone.keys:
                self.revision += 1
                for key in sorted(gone.keys):
                    self._delete(key)
            self.look()

    def grant(self, seconds: int) -> int:
        with self.lock:
            number = next(self._lease_numbers)
            self._leases[number] = _Lease(seconds, self.now)
            return number

    def keep_alive(self, lease: int) -> bool:
        """Whether there is such a lease."""
        with self.lock:
            if lease not in self._leases:
                return False
            self._leases[lease].ends = self.now + self._leases[lease].seconds
            return True

    def enter(self, client: Onlooker) -> None:
        with self.lock:
            self._clients.append(client)

    def leave(self, client: Onlooker) -> None:
        with self.lock:
            self._clients.remove(client)

    def look(self) -> None:
        """Every client sees what became of its watches and leases."""
        for client in list(self._clients):
            client.look()

    def select(self, key: str, prefix: bool) -> list[KeyValue]:
        if not prefix:
            return [self._keys[key]] if key in self._keys else []
        return [self._keys[each] for each in sorted(self._keys) if each.startswith(key)]

    def events(self, prefix: str, since: int) -> list[Event]:
        return [each for each in self._history if each.mod_revision >= since and each.key.startswith(prefix)]

    def apply(self, operations: Sequence[Operation]) -> list[list[KeyValue]]:
        """All at one revision. Returns what was found, or deleted, by each. Raises EtcdError where a lease is gone."""
        puts = [operation for operation in operations if isinstance(operation, Put)]
        for put in puts:
            if put.lease and put.lease not in self._leases:
                raise EtcdError(f"etcd cannot write {put.key}: requested lease not found")
        before = self.revision
        if puts or any(self.select(*each) for each in operations if isinstance(each, Delete)):
            self.revision += 1
        results = [self._apply(operation) for operation in operations]
        if self.revision != before:
            self.look()
        return results

    def _apply(self, operation: Operation) -> list[KeyValue]:
        if isinstance(operation, Put):
            self._put(operation)
            return []
        found = self.select(operation.key, operation.prefix)
        if isinstance(operation, Delete):
            for each in found:
                self._delete(each.key)
        return found

    def _put(self, put: Put) -> None:
        old = self._keys.get(put.key)
        self._detach(old)
        if put.lease:
            self._leases[put.lease].keys.add(put.key)
        created, version = (old.create_revision, old.version + 1) if old else (self.revision, 1)
        self._keys[put.key] = KeyValue(put.key, put.value, created, self.revision, version, put.lease)
        self._history.append(Event(put.key, put.value, self.revision, created))

    def _delete(self, key: str) -> None:
        self._detach(self._keys.pop(key, None))
        self._history.append(Event(key, None, self.revision))

    def _detach(self, old: KeyValue | None) -> None:
        if old is not None and old.lease in self._leases:
            self._leases[old.lease].keys.discard(old.key)
