"""Threads that serve connections: a few that stay, more while all are busy, up to a limit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

log = logging.getLogger("cnm.http")

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Calls `serve` with each thing that is put in, first come first served. Thread-safe.

    It stands where cheroot expects its own pool, which never grows and takes 0.1 s to start.
    """

    def __init__(self, serve: Callable[[T], None], least: int, most: int) -> None:
        self._serve = serve
        self._least, self._most = least, most
        self._waiting: SimpleQueue[T | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unclaimed = 0
        """Threads without work less things without a thread."""

    @property
    def idle(self) -> int:
        """Threads without work."""
        return max(self._unclaimed, 0)

    def start(self) -> None:
        with self._lock:
            for _ in range(self._least):
                self._grow_locked()

    def put(self, thing: T) -> None:
        with self._lock:
            self._unclaimed -= 1
            if self._unclaimed < 0 and len(self._threads) < self._most:
                self._grow_locked()
        self._waiting.put(thing)

    def stop(self, timeout: float = 5) -> None:
        """Let what has begun finish, for `timeout` seconds in all."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._waiting.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))

    def _grow_locked(self) -> None:
        thread = threading.Thread(target=self._work, name=f"api-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        self._unclaimed += 1
        thread.start()

    def _work(self) -> None:
        while (thing := self._waiting.get()) is not None:
            try:
                self._serve(thing)
            except Exception:
                log.exception("a connection failed")
            with self._lock:
                self._unclaimed += 1
