"""How much was heard of the cluster, and how long it took until the kernel had it: counted for metrics."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import NamedTuple

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds; the last bucket has no bound."""


class Counted(NamedTuple):
    """`lags` are those of whatever was handed out at once, in buckets of `BOUNDS` and one more; sums in seconds."""

    changes: int
    lags: tuple[int, ...]
    seconds: float
    repairs: int


class Tally:
    """Since the daemon began. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes, self._seconds, self._repairs = 0, 0.0, 0
        self._lags = [0] * (len(BOUNDS) + 1)

    def followed(self, changes: int, lag: float) -> None:
        """So many changes were followed; the first of them had come `lag` seconds before."""
        with self._lock:
            self._changes += changes
            self._seconds += lag
            self._lags[bisect_left(BOUNDS, lag)] += 1

    def repaired(self, count: int) -> None:
        with self._lock:
            self._repairs += count

    def read(self) -> Counted:
        with self._lock:
            return Counted(self._changes, tuple(self._lags), self._seconds, self._repairs)
