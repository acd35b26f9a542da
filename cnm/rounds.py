"""Something that is done again and again, off every request's path: at about even times, and soon when asked for."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

_SPREAD = 0.2
"""Of the time between two rounds: hosts that began together do not stay together."""

log = logging.getLogger(__name__)


class Rounds:
    """One thread from `start` to `close`; `do` logs what it expects to fail."""

    def __init__(self, name: str, seconds: float, do: Callable[[], None]) -> None:
        self._name, self._seconds, self._do = name, seconds, do
        self._condition = threading.Condition()
        self._due = 0.0
        """Of the monotonic clock."""
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Again after `close`; nothing where it runs."""
        if self._thread is None:
            self._closing, self._due = False, self._next()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def soon(self, seconds: float) -> None:
        """A round in `seconds` at the latest; whoever asks meanwhile gets the same one."""
        with self._condition:
            self._due = min(self._due, time.monotonic() + seconds)
            self._condition.notify()

    def _next(self) -> float:
        return time.monotonic() + self._seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD)

    def _run(self) -> None:
        while self._comes():
            try:
                self._do()
            except Exception:
                log.exception("%s: the round was not finished", self._name)

    def _comes(self) -> bool:
        """Wait for the next round; False at the end."""
        with self._condition:
            while not self._closing and (left := self._due - time.monotonic()) > 0:
                self._condition.wait(left)
            self._due = self._next()
            return not self._closing
