"""A wire between a client and a server on one host that stands still after so many bytes, and can be cut then."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from netns_fixtures import Host

_CHUNK = 16384


class Wire:
    """Connections to `port` of the host's loopback go on to `target`."""

    def __init__(self, host: Host, port: int, target: int) -> None:
        self._host, self._target = host, target
        self._left: int | None = None
        self._counts_server = True
        self._waiting, self._changed = 0, threading.Condition()
        self._pairs: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self.stands_still = threading.Event()
        self.carried = 0
        """Bytes that the server has said."""
        self._listener = host.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop_after(self, size: int, *, of_server: bool = True) -> None:
        """Of all that the server says from now on, or of all that clients do; 0: of the first word."""
        self.stands_still.clear()
        self._left, self._counts_server = size, of_server
        self._flows.clear()

    def await_waiting(self, count: int, seconds: float) -> bool:
        """Whether so many connections stand still at once, or do in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting >= count, seconds)

    def flow(self) -> None:
        """It goes on."""
        self._left = None
        self._flows.set()

    def cut(self) -> None:
        """Every connection there is ends, and new ones flow."""
        self._left = None
        for end in self._pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._flows.set()

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._host.socket()
            try:
                server.connect(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._pairs += (client, server)
            threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, of_server: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_CHUNK):
                if of_server is self._counts_server:
                    self._count(len(piece))
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _count(self, size: int) -> None:
        self.carried += size
        if self._left is not None:
            self._left -= size
            if self._left <= 0:
                self.stands_still.set()
                self._note_waiting(1)
                self._flows.wait()
                self._note_waiting(-1)

    def _note_waiting(self, more: int) -> None:
        with self._changed:
            self._waiting += more
            self._changed.notify_all()


@contextmanager
def wire(host: Host, port: int, target: int) -> Iterator[Wire]:
    made = Wire(host, port, target)
    try:
        yield made
    finally:
        made.close()
