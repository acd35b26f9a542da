"""The client of a real etcd: keeps the contract over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnm.cluster.etcd import codec
from cnm.cluster.etcd.calls import Calls, Effect
from cnm.cluster.etcd.channel import Credentials
from cnm.cluster.etcd.contract import Compare, Get, KeyValue, Listener, Operation, Outcome, Snapshot
from cnm.cluster.etcd.failover import Members
from cnm.cluster.etcd.leases import KeptLease
from cnm.cluster.etcd.messages import DELETE_RANGE, PUT, RANGE, TXN
from cnm.cluster.etcd.paging import read_all
from cnm.cluster.etcd.watching import PrefixWatch, Watching

SERVER_NAME = "etcd.cnm"
"""In the certificate of every member."""


class Client:
    """Asks one member, a random one at first, and others where it fails. Nothing is connected before the first call."""

    def __init__(
        self, endpoints: Sequence[str], ca: bytes, cert: bytes, key: bytes, server_name: str = SERVER_NAME
    ) -> None:
        """`endpoints` are HOST:PORT, certificates and key PEM, as `Credentials` has them.

        Raises InvalidParameter where there is no endpoint.
        """
        self.calls = Calls(Members(endpoints, Credentials(ca, cert, key, server_name)))
        self._watching = Watching(self.calls)
        self._leases: list[KeptLease] = []

    @property
    def endpoints(self) -> list[str]:
        """In the order in which they are asked."""
        return self.calls.members.endpoints

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Members have changed. What is under way with one that is gone may end, watches move."""
        self.calls.members.replace(endpoints)

    def set_identity(self, ca: bytes, cert: bytes, key: bytes) -> None:
        """A renewed certificate, for all connections; those that there are end soon."""
        self.calls.members.identify(ca, cert, key)

    def get(self, key: str, *, stale: bool = False) -> KeyValue | None:
        request = RANGE.request(key=codec.key_bytes(key), serializable=stale)
        answer = self.calls.ask(RANGE, request, f"read {key}", leader=not stale)
        return codec.key_value(answer.kvs[0]) if answer.kvs else None

    def list(self, prefix: str, *, stale: bool = False) -> Snapshot:
        return read_all(self.calls, prefix, stale)

    def put(self, key: str, value: bytes, lease: int = 0) -> int:
        answer = self.calls.ask(PUT, codec.put(key, value, lease), f"write {key}", Effect.SAME)
        return int(answer.header.revision)

    def delete(self, key: str, *, prefix: bool = False) -> int:
        """Where it had to be repeated, how many there were the last time."""
        answer = self.calls.ask(DELETE_RANGE, codec.delete(key, prefix), f"delete {key}", Effect.SAME)
        return int(answer.deleted)

    def transact(
        self, conditions: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Outcome:
        request = codec.transaction(conditions, then, otherwise)
        effect = Effect.ONCE if _changes([*then, *otherwise]) else Effect.NONE
        answer = self.calls.ask(TXN, request, _doing(conditions, then), effect)
        return codec.outcome(answer, then, otherwise)

    def watch(self, prefix: str, revision: int, listener: Listener) -> PrefixWatch:
        return self._watching.watch(prefix, revision, listener)

    def keep_lease(self, seconds: int, renewed: Callable[[int], None]) -> KeptLease:
        self.calls.members.current()  # raises when closed
        made = KeptLease(self.calls, seconds, renewed)
        self._leases = [*(each for each in self._leases if not each.closed), made]
        return made

    def close(self) -> None:
        """Leases run out by themselves, unless they were revoked before."""
        for lease in self._leases:
            lease.close()
        self._watching.close()
        self.calls.members.close()


def _changes(operations: Sequence[Operation]) -> bool:
    return any(not isinstance(operation, Get) for operation in operations)


def _doing(conditions: Sequence[Compare], then: Sequence[Operation]) -> str:
    keys = dict.fromkeys(each.key for each in (*then, *conditions))
    return f"change {next(iter(keys), 'nothing')}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
