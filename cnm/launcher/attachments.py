"""Who is attached to a container's streams, and who waits for it to start: what it says first is not lost."""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import Future

from cnm.errors import CnmError
from cnm.launcher.monitor import Monitor

log = logging.getLogger("cnm.launcher")


class Attachments:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Future[socket.socket | None]]] = {}

    def wait_for(self, ident: str) -> Future[socket.socket | None]:
        """conmon's attach socket, connected before the first process runs; None where it did not start."""
        waiting: Future[socket.socket | None] = Future()
        with self._lock:
            self._waiting.setdefault(ident, []).append(waiting)
        return waiting

    def give_up(self, ident: str, waiting: Future[socket.socket | None]) -> None:
        """The client has gone."""
        with self._lock:
            others = self._waiting.get(ident, [])
            if waiting in others:
                others.remove(waiting)

    def connect(self, ident: str, monitor: Monitor) -> None:
        """The container is made and does not run yet."""
        for waiting in self._take(ident):
            try:
                waiting.set_result(monitor.attach(ident))
            except CnmError as error:
                log.error("container %s: a client is not attached: %s", ident[:12], error)
                waiting.set_result(None)

    def fail(self, ident: str) -> None:
        """It did not start, or is gone."""
        for waiting in self._take(ident):
            waiting.set_result(None)

    def _take(self, ident: str) -> list[Future[socket.socket | None]]:
        with self._lock:
            return self._waiting.pop(ident, [])
