"""Volumes that nobody may use or remove for now, since they are on their way to another host."""

from __future__ import annotations

import threading

from cnm.errors import Conflict


class Held:
    """Thread-safe. Volumes look here with the volume's lock, and so does whoever adds one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        """`reason` is what a client reads behind the volume's name. Raises Conflict for one that is held."""
        with self._lock:
            self._check_locked(name, "volume")
            self._reasons[name] = reason

    def change(self, name: str, reason: str) -> None:
        with self._lock:
            self._reasons[name] = reason

    def drop(self, name: str) -> None:
        with self._lock:
            self._reasons.pop(name, None)

    def check(self, name: str, verb: str) -> None:
        """Raises Conflict that says why."""
        with self._lock:
            self._check_locked(name, verb)

    def _check_locked(self, name: str, verb: str) -> None:
        if reason := self._reasons.get(name):
            raise Conflict(f"{verb} {name}: {reason}")
