"""Threads that call the listeners of an etcd in memory, and whoever waits until they have."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger("cnm.cluster")


class Pending:
    """How many calls listeners are still to hear."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def add(self, more: int) -> None:
        with self._changed:
            self._count += more
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, seconds)


class Caller:
    """A thread that calls what it is given, in order, until it is ended."""

    def __init__(self, name: str, pending: Pending) -> None:
        self._pending = pending
        self._calling = threading.RLock()
        self._giving = threading.Lock()
        self._ended = False
        self._closed = False
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, what: Callable[[], object]) -> None:
        with self._giving:
            if not self._ended:
                self._pending.add(1)
                self._calls.put(what)

    def end(self) -> None:
        """What it was given before is still called."""
        with self._giving:
            if not self._ended:
                self._ended = True
                self._calls.put(None)

    def close(self) -> None:
        """Nothing is called any more when this returns; may be called from within a call."""
        self.end()
        with self._calling:
            self._closed = True

    def _run(self) -> None:
        while (what := self._calls.get()) is not None:
            with self._calling:
                try:
                    if not self._closed:
                        what()
                except Exception:
                    log.exception("who listens to etcd failed")
            self._pending.add(-1)
