"""The event loop of a sidecar: level-triggered epoll and timers; one thread serves everything.

A watcher deals with the errors that it expects. What it raises ends the process: cnmd starts the next one at once, and
connections that were not accepted yet wait for it in the listening sockets.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable
from typing import Protocol


class Watcher(Protocol):
    """Whoever is told that a descriptor of his is ready."""

    def ready(self, descriptor: int, events: int) -> None:
        """`events` is a mask of EPOLLIN, EPOLLOUT, EPOLLERR and EPOLLHUP."""


class Loop:
    """Ends with `stop`, after the round in which that is called."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        """Seconds that never run backwards."""
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running = True

    def watch(self, descriptor: int, events: int, watcher: Watcher) -> None:
        """EPOLLERR and EPOLLHUP are reported even where `events` is 0."""
        self._epoll.register(descriptor, events)
        self._watchers[descriptor] = watcher
        self._fresh.add(descriptor)

    def change(self, descriptor: int, events: int) -> None:
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """To be called before the descriptor is closed."""
        self._epoll.unregister(descriptor)
        del self._watchers[descriptor]

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.clock() + seconds, next(self._order), call))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            self.run_once(self._until_next_timer())

    def run_once(self, timeout: float | None = None) -> None:
        """One round: wait at most `timeout` seconds, serve what is ready and call what is due."""
        self._fresh.clear()
        for descriptor, events in self._epoll.poll(timeout):
            watcher = self._watchers.get(descriptor)
            # A number that was closed and given out anew in this round is not what the event was for.
            if watcher is not None and descriptor not in self._fresh:
                watcher.ready(descriptor, events)
        while self._timers and self._timers[0][0] <= self.clock():
            heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        self._epoll.close()

    def _until_next_timer(self) -> float | None:
        return max(0.0, self._timers[0][0] - self.clock()) if self._timers else None
