"""Members let nodes write: whoever takes part in a network may write its own endpoints there, and nobody else's.

A thread on every member mirrors who takes part in what (`keys.PARTICIPANTS`), and makes etcd's roles so. Nodes wait
for the first grant, so it is made at once, by the first member; the others look a moment later, each after those before
it, and find nothing to do. Every change of a role has etcd look at all users anew, so none is made in vain.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import Etcd, EtcdError, Event, Following, Listener, Watch
from cnm.cluster.etcd.roles import Access, Permission
from cnm.cluster.identity import role_of
from cnm.cluster.registry import Users, own_permissions
from cnm.errors import CnmError, NotFound

log = logging.getLogger("cnm.cluster")

_TURN_SECONDS = 0.05
"""For which a member waits for each one before it."""
_AUDIT_SECONDS = 60.0
"""Between two looks at everything."""
_RETRY_SECONDS = 1.0

_WATCHED = (keys.REGISTRATIONS, keys.NETWORKS, keys.PARTICIPANTS)


class Grants:
    """Of one member, `me`. Nothing is done before `start`."""

    def __init__(self, etcd: Etcd, users: Users, me: str, *, audit_seconds: float = _AUDIT_SECONDS) -> None:
        """`etcd` and `users` as etcd's root user."""
        self._etcd = etcd
        self._users = users
        self._me = me
        self._audit_seconds = audit_seconds
        self._mirror = Mirror(etcd, _WATCHED, self._noticed)
        self._work: SimpleQueue[str | None] = SimpleQueue()
        """Nodes to look at, "" for all; None is the end."""
        self._thread = threading.Thread(target=self._run, name="grants", daemon=True)
        self._closing = threading.Event()

    def start(self) -> None:
        self._work.put("")
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._work.put(None)
        self._mirror.close()
        self._thread.join()

    def _noticed(self, changed: Iterable[str]) -> None:
        """Keys that were put or deleted, none where everything may have changed; called by the watches' threads."""
        nodes = [_node_of(key) for key in changed] or [""]
        for node in dict.fromkeys(nodes):
            self._work.put(node)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                node = self._work.get(timeout=self._audit_seconds)
            except Empty:
                node = ""
            if node is None:
                return
            try:
                self._look({node, *self._waiting()})
            except EtcdError as error:
                log.info("who may write where is looked at again: %s", error)
                self._closing.wait(_RETRY_SECONDS)
                self._work.put("")
            except CnmError as error:
                log.error("who may write where cannot be changed: %s", error)
                self._closing.wait(_RETRY_SECONDS)

    def _waiting(self) -> set[str]:
        found = set()
        while not self._work.empty():
            node = self._work.get()
            if node is None:
                self._closing.set()
                break
            found.add(node)
        return found

    def _look(self, nodes: set[str]) -> None:
        if self._closing.is_set():
            return
        if not self._mirror.follows:
            self._mirror.follow()
            nodes = {""}
        registered = self._registered()
        self._closing.wait(_TURN_SECONDS * self._turn(registered))
        for node in registered if "" in nodes else nodes & registered.keys():
            self._settle(node)

    def _registered(self) -> dict[str, bool]:
        """Whether it is a member, by the node's name."""
        found = self._mirror.under(keys.REGISTRATIONS)
        return {
            key.removeprefix(keys.REGISTRATIONS): records.decode(value, records.Registration).member
            for key, value in found.items()
        }

    def _turn(self, registered: dict[str, bool]) -> int:
        """How many members are before this one."""
        return sum(name < self._me for name, member in registered.items() if member)

    def _settle(self, node: str) -> None:
        """Make the node's role as it should be. One that was removed meanwhile has none."""
        role = role_of(node)
        try:
            allowed = self._users.permissions(role)
            there = {each.key for each in allowed if each.key.startswith(keys.ENDPOINTS)}
            for lacking in sorted(set(own_permissions(node)) - set(allowed)):
                self._users.grant(role, lacking)  # enrolled by a version that knew less
            wanted = self._wanted(
                node
            )  # afterwards: what another member has just granted is known here by then
            for prefix in sorted(wanted - there):
                self._users.grant(role, Permission(prefix, Access.READWRITE))
            for prefix in sorted(there - wanted):
                self._users.revoke(role, Permission(prefix, Access.READWRITE))
        except NotFound:
            log.info("node %s has no role any more", node)

    def _wanted(self, node: str) -> set[str]:
        """Prefixes of its endpoints."""
        networks = self._mirror.under(keys.NETWORKS)
        own = keys.participants_of(node)
        return {
            keys.endpoints_of(key.removeprefix(own), node)
            for key in self._mirror.under(own)
            if keys.network(key.removeprefix(own)) in networks
        }


class Mirror:
    """What is under some prefixes, kept as etcd has it. `follow` comes first, and again where `follows` is false."""

    def __init__(
        self, etcd: Etcd, prefixes: Sequence[str], changed: Callable[[Iterable[str]], object]
    ) -> None:
        """`changed` is told keys, or nothing where everything is to be read again; it may not block."""
        self._etcd = etcd
        self._prefixes = prefixes
        self._changed = changed
        self._lock = threading.Lock()
        self._known: dict[str, bytes] = {}
        self._watches: list[Watch] = []
        self._follows = False

    @property
    def follows(self) -> bool:
        return self._follows

    def follow(self) -> None:
        """Read everything, and hear of changes from then on. Raises EtcdError."""
        self.close()
        snapshots = [self._etcd.list(prefix) for prefix in self._prefixes]
        with self._lock:
            self._known = {each.key: each.value for snapshot in snapshots for each in snapshot.items}
        self._follows = True
        self._watches = [
            self._etcd.watch(prefix, snapshot.revision + 1, Listener(self._hear, self._stands))
            for prefix, snapshot in zip(self._prefixes, snapshots, strict=True)
        ]

    def close(self) -> None:
        watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        self._follows = False

    def under(self, prefix: str) -> dict[str, bytes]:
        with self._lock:
            return {key: value for key, value in self._known.items() if key.startswith(prefix)}

    def _hear(self, events: Sequence[Event], _revision: int) -> None:
        with self._lock:
            for event in events:
                if event.value is None:
                    self._known.pop(event.key, None)
                else:
                    self._known[event.key] = event.value
        self._changed([event.key for event in events])

    def _stands(self, how: Following) -> None:
        if how in (Following.COMPACTED, Following.DENIED):
            self._follows = False
            self._changed(())


def _node_of(key: str) -> str:
    """The node that a key is about, "" where it is about all."""
    for prefix in (keys.PARTICIPANTS, keys.REGISTRATIONS):
        if key.startswith(prefix):
            return key.removeprefix(prefix).partition("/")[0]
    return ""
