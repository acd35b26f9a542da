"""What happened: events of networks, endpoints, sandboxes and ports, kept for a while and handed to listeners."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

_KEPT = 256
_QUEUED = 1024


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event; `action` is Docker's word for it (create, connect, disconnect, destroy, …)."""

    time_nano: int
    """Nanoseconds since the epoch."""
    type: str
    action: str
    id: str
    attributes: dict[str, str] = {}


class EventBus:
    """Thread-safe. A listener that does not read loses the newest events, never holds up a verb."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._listeners: set[queue.Queue[Event]] = set()

    def publish(self, kind: str, action: str, ident: str, **attributes: str) -> None:
        event = Event(time_nano=time.time_ns(), type=kind, action=action, id=ident, attributes=attributes)
        with self._lock:
            self._kept.append(event)
            for listener in self._listeners:
                if not listener.full():
                    listener.put_nowait(event)

    def past(self, since: int = 0) -> list[Event]:
        """The kept events from `since` (nanoseconds since the epoch) on."""
        with self._lock:
            return [event for event in self._kept if event.time_nano >= since]

    @property
    def listeners(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._listeners)

    @contextmanager
    def subscribe(self) -> Iterator[queue.Queue[Event]]:
        """A queue of what happens while the context lasts."""
        listener: queue.Queue[Event] = queue.Queue(_QUEUED)
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)
