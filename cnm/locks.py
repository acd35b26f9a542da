"""Locks of the model, and the order in which they are taken.

0. the turn of an id of dockerd's, which says the same again before it was answered.
1. `verbs`: shared by every verb, exclusive for doctor, repair and start-up, which need the model at rest.
   A verb may be long, since it calls a plugin of somebody else's under 1 to 3: whoever wants it exclusively holds
   other verbs up for a second at a time only, and lets them pass before it tries again. So a plugin that hangs
   delays doctor and the repair of drift, for as long as its calls may take, but no verb on other networks.
2. a sandbox's own lock: join, leave, gateway choice, delete of that sandbox.
3. a network's lock: shared by endpoint verbs, exclusive for its creation, change and deletion.
4. `parents`: of networks that may share a parent, one at a time is created or deleted.
5. `host`: what the host's own interfaces need, recomputed when networks come and go.
6. leaves, held for moments and never while taking another or calling a plugin: the model's dictionaries, a pool's
   addresses, the host ports, the netlink socket, the nft queue, the store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_SECONDS = 1.0


class SharedLock:
    """Many readers or one writer; a waiting writer goes before new readers, but only for a second at a time.

    Not reentrant.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._readers = 0
        self._writer = False
        self._waiting_writers = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            while self._writer or self._waiting_writers:
                self._condition.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                if not self._readers:
                    self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._condition:
            while not self._is_free():
                self._waiting_writers += 1
                self._condition.wait_for(self._is_free, _PATIENCE_SECONDS)
                self._waiting_writers -= 1
                if not self._is_free():
                    self._condition.notify_all()
                    self._condition.wait_for(self._is_free, _PATIENCE_SECONDS)
            self._writer = True
        try:
            yield
        finally:
            with self._condition:
                self._writer = False
                self._condition.notify_all()

    def _is_free(self) -> bool:
        return not self._writer and not self._readers


class Turns:
    """Those who ask about the same id take turns; of ids that nobody asks about nothing is kept."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, ident: str) -> Iterator[None]:
        with self._guard:
            turn, asking = self._turns.get(ident, (threading.Lock(), 0))
            self._turns[ident] = turn, asking + 1
        try:
            with turn:
                yield
        finally:
            with self._guard:
                _, asking = self._turns.pop(ident)
                if asking > 1:
                    self._turns[ident] = turn, asking - 1


class LockTable:
    """A lock for each id, made when first asked for and dropped with its object."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sandboxes: dict[str, threading.RLock] = {}
        self._networks: dict[str, SharedLock] = {}
        self.verbs = SharedLock()
        self.parents = threading.Lock()
        self.host = threading.Lock()

    def sandbox(self, ident: str) -> threading.RLock:
        with self._guard:
            return self._sandboxes.setdefault(ident, threading.RLock())

    def network(self, ident: str) -> SharedLock:
        with self._guard:
            return self._networks.setdefault(ident, SharedLock())

    def forget(self, ident: str) -> None:
        with self._guard:
            self._sandboxes.pop(ident, None)
            self._networks.pop(ident, None)
