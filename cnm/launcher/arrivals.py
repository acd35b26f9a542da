"""Clients that attach before a container starts: they are given its streams in time, so that nothing is lost."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from cnm.errors import CnmError
from cnm.launcher.streams import ContainerStreams

log = logging.getLogger("cnm.launcher")

Arrival = Future[ContainerStreams | None]
"""Of one client; None where the container did not start."""


class Arrivals:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Arrival]] = {}

    def expect(self, ident: str) -> Arrival:
        arrival: Arrival = Future()
        with self._lock:
            self._waiting.setdefault(ident, []).append(arrival)
        return arrival

    def forget(self, ident: str, arrival: Arrival) -> None:
        """The client has gone."""
        with self._lock:
            others = self._waiting.get(ident, [])
            if arrival in others:
                others.remove(arrival)

    def connect(self, ident: str, bundle: str, pid: int) -> None:
        """The container is made and does not run yet."""
        for arrival in self._take(ident):
            try:
                arrival.set_result(ContainerStreams(bundle, pid))
            except CnmError as error:
                log.error("container %s: a client is not attached: %s", ident[:12], error)
                arrival.set_result(None)

    def disappoint(self, ident: str) -> None:
        """It did not start, or is gone."""
        for arrival in self._take(ident):
            arrival.set_result(None)

    def _take(self, ident: str) -> list[Arrival]:
        with self._lock:
            return self._waiting.pop(ident, [])
