"""Who is attached to which container, and what their leaving does to its standard input."""

from __future__ import annotations

import socket
import threading
from collections import Counter, defaultdict

from cnm.launcher.attach import Ended, Wish, relay
from cnm.launcher.streams import ContainerStreams


class Attachments:
    """Thread-safe. One who is to lose nothing makes their `ContainerStreams` before the container is started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attached: Counter[str] = Counter()
        self._parked: defaultdict[str, list[socket.socket]] = defaultdict(list)

    def serve(
        self, container: str, client: socket.socket, early: bytes, streams: ContainerStreams, wish: Wish
    ) -> Ended:
        """Relay until one side ends; the streams are let go of. The client's connection stays open."""
        with self._lock:
            self._attached[container] += 1
        try:
            return relay(client, early, streams, wish, others=lambda: self._attached[container] > 1)
        finally:
            with self._lock:
                self._attached[container] -= 1
                if not self._attached[container]:
                    del self._attached[container]
            self.release(container, streams, wish)

    def release(self, container: str, streams: ContainerStreams, wish: Wish) -> None:
        """Let go of streams. conmon takes any connection's end for the input's: one that had no part in it stays."""
        if wish.stdin or not streams.outputs():
            streams.close()
            return
        with self._lock:
            self._parked[container].append(streams.park())

    def forget(self, container: str) -> None:
        """The container has ended."""
        with self._lock:
            parked = self._parked.pop(container, [])
        for connection in parked:
            connection.close()
