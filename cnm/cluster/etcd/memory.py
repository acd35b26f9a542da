"""An etcd in memory, for tests of what stands on one: it keeps the contract, and it fails when it is told to.

`MemoryStore` is the cluster, with a clock that stands still, `MemoryEtcd` a client of it. One list of cases runs over
this and over a real etcd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cnm.cluster.etcd.contract import (
    Ambiguous,
    Compare,
    Delete,
    Denied,
    EtcdError,
    Event,
    Following,
    Get,
    KeyValue,
    Listener,
    Operation,
    Outcome,
    Put,
    Snapshot,
    Subject,
)
from cnm.cluster.etcd.memory_calling import Caller, Pending
from cnm.cluster.etcd.memory_store import MemoryStore
from cnm.cluster.etcd.roles import Access, Permission
from cnm.errors import InvalidParameter

__all__ = ["MemoryEtcd", "MemoryLease", "MemoryStore", "MemoryWatch"]

_MOST_OPERATIONS = 128
_EVERYTHING = (Permission(""),)


class MemoryWatch:
    """Each has a thread, and looks at the store whenever that changes."""

    def __init__(self, etcd: MemoryEtcd, prefix: str, revision: int, listener: Listener) -> None:
        self.caller = Caller("memory-watch", etcd.pending)
        self._etcd = etcd
        self._prefix = prefix
        self._next = revision or etcd.store.revision + 1
        self._listener = listener
        self._stands: Following | None = None

    def close(self) -> None:
        self._etcd.forget(self)
        self.caller.close()

    def look(self) -> None:
        store = self._etcd.store
        if not self._etcd.serves():
            self._stand(Following.DEGRADED)
        elif not self._etcd.may(Access.READ, self._prefix, prefix=True):
            self._end(Following.DENIED)
        elif self._next < store.compacted:
            self._end(Following.COMPACTED)
        else:
            self._stand(Following.CURRENT)
            self._hear(store.events(self._prefix, self._next), store.revision)

    def _hear(self, events: Sequence[Event], revision: int) -> None:
        if events:
            self._next = events[-1].mod_revision + 1
            self.caller.call(lambda: self._listener.changed(events, revision))

    def _stand(self, how: Following) -> None:
        if self._stands is not how:
            self._stands = how
            self.caller.call(lambda: self._listener.stands(how))

    def _end(self, how: Following) -> None:
        self._etcd.forget(self)
        self._stand(how)
        self.caller.end()


class MemoryLease:
    """Kept alive as long as its client serves."""

    def __init__(self, etcd: MemoryEtcd, seconds: int, renewed: Callable[[int], None]) -> None:
        self.id = 0
        self.caller = Caller("memory-lease", etcd.pending)
        self._etcd = etcd
        self._seconds = seconds
        self._renewed = renewed

    def close(self, *, revoke: bool = False) -> None:
        self._etcd.forget(self)
        self.caller.close()
        number, self.id = self.id, 0
        if revoke and number:
            if not self._etcd.serves():
                raise EtcdError("etcd cannot revoke the lease: it is away")
            self._etcd.store.revoke(number)

    def look(self) -> None:
        store = self._etcd.store
        if not self._etcd.serves() or (self.id and store.keep_alive(self.id)):
            return
        self.id = number = store.grant(self._seconds)
        self.caller.call(lambda: self._renewed(number) if self.id == number else None)


class MemoryEtcd:
    """A client that keeps the contract."""

    def __init__(self, store: MemoryStore, permissions: Sequence[Permission] = _EVERYTHING) -> None:
        self.store = store
        self.pending = Pending()
        self._permissions = permissions
        self._away = False
        self._closed = False
        self._lost_answers = 0
        self._followers: list[MemoryWatch | MemoryLease] = []
        store.enter(self)

    # What tests do to it.

    @property
    def away(self) -> bool:
        """Whether no member can be reached."""
        return self._away

    @away.setter
    def away(self, gone: bool) -> None:
        with self.store.lock:
            self._away = gone
            self.look()

    def lose_answers(self, count: int = 1) -> None:
        """The next changes are made, and the answers to them are lost."""
        self._lost_answers = count

    def settle(self, seconds: float = 10.0) -> None:
        """Until listeners have heard of everything that happened before. Raises TimeoutError."""
        if not self.pending.wait(seconds):
            raise TimeoutError(f"a listener has not returned within {seconds:g} s")

    # The contract.

    def get(self, key: str, *, stale: bool = False) -> KeyValue | None:
        with self.store.lock:
            self._ready(f"read {key}", stale)
            self._permit(Access.READ, f"read {key}", key)
            return next(iter(self.store.select(key, prefix=False)), None)

    def list(self, prefix: str, *, stale: bool = False) -> Snapshot:
        with self.store.lock:
            self._ready(f"list {prefix}", stale)
            self._permit(Access.READ, f"list {prefix}", prefix, prefix=True)
            return Snapshot(self.store.revision, self.store.select(prefix, prefix=True))

    def put(self, key: str, value: bytes, lease: int = 0) -> int:
        with self.store.lock:
            self._ready(f"write {key}")
            self._permit(Access.WRITE, f"write {key}", key)
            self.store.apply([Put(key, value, lease)])
            if self._answer_is_lost():
                self.store.apply([Put(key, value, lease)])
            return self.store.revision

    def delete(self, key: str, *, prefix: bool = False) -> int:
        with self.store.lock:
            self._ready(f"delete {key}")
            self._permit(Access.WRITE, f"delete {key}", key, prefix)
            (found,) = self.store.apply([Delete(key, prefix)])
            return 0 if self._answer_is_lost() else len(found)

    def transact(
        self, conditions: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Outcome:
        with self.store.lock:
            self._ready("change anything")
            for branch in (then, otherwise):
                _check(branch)
            self._permit_all(conditions, [*then, *otherwise])
            succeeded = all(self._holds(condition) for condition in conditions)
            taken = then if succeeded else otherwise
            results = self.store.apply(taken)
            if self._answer_is_lost():
                raise Ambiguous("whether etcd did change anything is not known: it does not answer")
            found = [
                result for operation, result in zip(taken, results, strict=True) if isinstance(operation, Get)
            ]
            return Outcome(succeeded, self.store.revision, found)

    def watch(self, prefix: str, revision: int, listener: Listener) -> MemoryWatch:
        with self.store.lock:
            self._open()
            watch = MemoryWatch(self, prefix, revision, listener)
            self._followers.append(watch)
            watch.look()
            return watch

    def keep_lease(self, seconds: int, renewed: Callable[[int], None]) -> MemoryLease:
        with self.store.lock:
            self._open()
            lease = MemoryLease(self, seconds, renewed)
            self._followers.append(lease)
            lease.look()
            return lease

    def close(self) -> None:
        with self.store.lock:
            if self._closed:
                return
            self._closed = True
            self.store.leave(self)
            followers, self._followers = self._followers, []
        for follower in followers:
            follower.caller.close()

    # For its watches and leases.

    def serves(self) -> bool:
        return not self._away and not self._closed and self.store.quorum

    def may(self, access: Access, key: str, prefix: bool = False) -> bool:
        return any(each.allows(access, key, prefix) for each in self._permissions)

    def forget(self, follower: MemoryWatch | MemoryLease) -> None:
        with self.store.lock:
            self._followers = [each for each in self._followers if each is not follower]

    def look(self) -> None:
        for follower in list(self._followers):
            follower.look()

    def _open(self) -> None:
        if self._closed:
            raise EtcdError("the connection to etcd was closed")

    def _ready(self, doing: str, stale: bool = False) -> None:
        self._open()
        if self._away:
            raise EtcdError(f"etcd cannot {doing}: it is away")
        if not self.store.quorum and not stale:
            raise EtcdError(f"etcd cannot {doing}: no leader")

    def _permit(self, access: Access, doing: str, key: str, prefix: bool = False) -> None:
        if not self.may(access, key, prefix):
            raise Denied(f"etcd cannot {doing}: permission denied")

    def _permit_all(self, conditions: Iterable[Compare], operations: Iterable[Operation]) -> None:
        for condition in conditions:
            self._permit(Access.READ, f"read {condition.key}", condition.key, condition.prefix)
        for operation in operations:
            access = Access.READ if isinstance(operation, Get) else Access.WRITE
            prefix = not isinstance(operation, Put) and operation.prefix
            self._permit(access, f"change {operation.key}", operation.key, prefix)

    def _holds(self, condition: Compare) -> bool:
        """Of a key that does not exist all revisions are 0, and no value is anything."""
        found = self.store.select(condition.key, condition.prefix)
        if not found and condition.subject is Subject.VALUE:
            return False
        return all(
            (getattr(each, condition.subject.value) == condition.wanted) is not condition.differs
            for each in found or [KeyValue(condition.key, b"")]
        )

    def _answer_is_lost(self) -> bool:
        self._lost_answers, lost = max(0, self._lost_answers - 1), self._lost_answers > 0
        return lost


def _check(branch: Sequence[Operation]) -> None:
    """As etcd refuses transactions. Raises InvalidParameter."""
    if len(branch) > _MOST_OPERATIONS:
        raise InvalidParameter("etcd cannot change anything: too many operations in txn request")
    puts = [operation.key for operation in branch if isinstance(operation, Put)]
    deletes = [operation for operation in branch if isinstance(operation, Delete)]
    deleted = any(
        put.startswith(each.key) if each.prefix else put == each.key for put in puts for each in deletes
    )
    if len(set(puts)) < len(puts) or deleted:
        raise InvalidParameter("etcd cannot change anything: duplicate key given in txn request")
