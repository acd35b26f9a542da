"""Endpoints of sandboxes as cnmd told of them, for as long as nothing is heard of a change: who shows a container asks
often, and cnmd is another process.

Another's change is known when its event has come, some milliseconds behind it; our own when it is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Endpoints = list[dict[str, Any]]
"""As cnmd shows them (`cnm.wire.control.Endpoint`)."""


class EndpointsKnown:
    """By the ids of sandboxes. Thread-safe; what it gives is not to be changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Endpoints] = {}
        self._changes = 0
        """How many there were: what was asked for before one is not kept."""
        self._follows = False

    def follow(self, follows: bool) -> None:
        """Whether changes are heard of from now on; nothing is kept while they are not."""
        with self._lock:
            self._follows = follows
            self._forget_locked()

    def changed(self) -> None:
        """Something is otherwise at cnmd, or may be."""
        with self._lock:
            self._forget_locked()

    def of(self, ident: str, ask: Callable[[str], Endpoints]) -> Endpoints:
        """What is known, else what `ask` says, which raises what it likes."""
        with self._lock:
            known, changes = self._known.get(ident), self._changes
        if known is not None:
            return known
        asked = ask(ident)
        with self._lock:
            if self._follows and changes == self._changes:
                self._known[ident] = asked
        return asked

    def _forget_locked(self) -> None:
        self._changes += 1
        self._known.clear()
