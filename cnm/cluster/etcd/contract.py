"""What an etcd can do for those above: the client of a real one and the one in memory keep this contract.

Keys are text, values bytes. Every call waits a second at most unless it says otherwise, asks only a member that has a
leader, and fails over to another member by itself. All calls raise:

    EtcdError (Unavailable)     no member answers, or they have no majority; nothing was changed, or nobody knows
    └── Ambiguous               the answer to a change did not come: it may have been applied
    Denied (Forbidden)          the user's role does not allow this
    Compacted (EtcdError)       the revision asked for is no longer kept: read everything again
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from cnm.errors import Forbidden, Unavailable


class EtcdError(Unavailable):
    """The cluster's store is away; its text says which members were asked, and what they said."""


class Ambiguous(EtcdError):
    """Whether the change was made is not known: look, or make it again in a way that may be repeated."""


class Compacted(EtcdError):
    """The history since that revision is gone."""


class Denied(Forbidden):
    """The certificate's user may not do this."""


class KeyValue(NamedTuple):
    """A key as it is; revisions count the changes of the whole store, `version` those of the key since it was made."""

    key: str
    value: bytes
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 1
    lease: int = 0


class Snapshot(NamedTuple):
    """Everything under a prefix at one revision, ordered by key."""

    revision: int
    items: list[KeyValue]


class Put(NamedTuple):
    key: str
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    """`prefix`: every key that begins with `key`."""

    key: str
    prefix: bool = False


class Get(NamedTuple):
    """`prefix`: every key that begins with `key`."""

    key: str
    prefix: bool = False


Operation = Put | Delete | Get


class Subject(Enum):
    """What of a key is compared, for equality."""

    CREATE_REVISION = "create_revision"
    """0: the key does not exist."""
    MOD_REVISION = "mod_revision"
    VALUE = "value"
    LEASE = "lease"


class Compare(NamedTuple):
    """A condition of a transaction. `prefix`: it must hold for every key that begins with `key`."""

    key: str
    subject: Subject
    wanted: int | bytes
    prefix: bool = False
    differs: bool = False
    """The subject must not be `wanted`."""


def absent(key: str, *, prefix: bool = False) -> Compare:
    return Compare(key, Subject.CREATE_REVISION, 0, prefix)


def exists(key: str) -> Compare:
    return Compare(key, Subject.CREATE_REVISION, 0, differs=True)


def unchanged(key: str, mod_revision: int) -> Compare:
    """0: the key does not exist."""
    return Compare(key, Subject.MOD_REVISION, mod_revision)


def holds(key: str, value: bytes) -> Compare:
    return Compare(key, Subject.VALUE, value)


class Outcome(NamedTuple):
    """Of a transaction: which branch was taken, and what its `Get`s found, in their order."""

    succeeded: bool
    revision: int
    found: list[list[KeyValue]]


class Event(NamedTuple):
    """A change of a key: `value` None where it was deleted (or its lease ran out)."""

    key: str
    value: bytes | None
    mod_revision: int
    create_revision: int = 0
    """0 where it was deleted."""


class Following(Enum):
    """How it stands with a watch."""

    CURRENT = "current"
    """It hears of every change."""
    DEGRADED = "degraded"
    """No member answers, or they have no majority: what comes meanwhile is heard later."""
    COMPACTED = "compacted"
    """It is over: what happened meanwhile is no longer kept. Read everything again, and watch anew."""
    DENIED = "denied"
    """It is over: the role does not allow it (any more)."""


class Listener(NamedTuple):
    """What a watch calls, in a thread of its own and never at once: neither may block for long, nor raise."""

    changed: Callable[[Sequence[Event], int], None]
    """(all events of one answer, the store's revision then)."""
    stands: Callable[[Following], None]


class Watch(Protocol):
    def close(self) -> None:
        """Nothing is called any more when this returns; may be called from within a listener."""


class LeaseKeeper(Protocol):
    """A lease that is kept alive. Where it was lost, there is soon another."""

    @property
    def id(self) -> int:
        """What keys are put with; 0 as long as there is none."""

    def close(self, *, revoke: bool = False) -> None:
        """`revoke`: every key under it goes now, not when it runs out."""


class Etcd(Protocol):
    """Thread-safe."""

    def get(self, key: str, *, stale: bool = False) -> KeyValue | None:
        """`stale`: what any member has, also without a majority."""

    def list(self, prefix: str, *, stale: bool = False) -> Snapshot:
        """Read in pages of one revision. A big one may take more than a second."""

    def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """The store's revision. May be repeated, so that it is never Ambiguous while another member answers."""

    def delete(self, key: str, *, prefix: bool = False) -> int:
        """How many keys there were."""

    def transact(
        self, conditions: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Outcome:
        """At most 128 operations a branch. Raises Ambiguous: it is not repeated unasked."""

    def watch(self, prefix: str, revision: int, listener: Listener) -> Watch:
        """Hear of all changes from `revision` on (a snapshot's plus one), over members that come and go."""

    def keep_lease(self, seconds: int, renewed: Callable[[int], None]) -> LeaseKeeper:
        """A lease of `seconds` since its last sign of life. `renewed` is called, in a thread of its own, with the id of
        each lease that there is: with the first one, and where one was lost, with the next. Until it has returned
        nothing else is called."""

    def close(self) -> None: ...
