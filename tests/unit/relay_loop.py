"""The relay's loop turned by hand: everything happens in the test's own thread, in an order that it chooses."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from cnm.sidecar.loop import Loop


def turn_until(loop: Loop, condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Serve what is ready until `condition` holds; AssertionError if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        loop.run_once(0.01)


def turn_until_quiet(loop: Loop) -> int:
    """Serve until nothing is ready any more; returns the rounds. AssertionError if something stays ready for ever."""
    for rounds in range(1000):
        if not _turn_is_busy(loop):
            return rounds
    raise AssertionError("the loop spins")


def _turn_is_busy(loop: Loop) -> bool:
    ready = bool(loop._epoll.poll(0.02))
    loop.run_once(0)
    return ready


class Peer:
    """A client or server at the outside of the relay; remembers what it received and how that ended."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self.received = bytearray()
        self.ended = False
        self.reset = False

    def read(self, limit: int = 1 << 30) -> bytes:
        """All there is, up to `limit` bytes; returns all that ever came."""
        with contextlib.suppress(BlockingIOError):
            try:
                while len(self.received) < limit:
                    data = self.socket.recv(min(1 << 16, limit - len(self.received)))
                    if not data:
                        self.ended = True
                        break
                    self.received += data
            except ConnectionResetError:
                self.reset = True
        return bytes(self.received)

    def has_ended(self) -> bool:
        self.read()
        return self.ended

    def was_reset(self) -> bool:
        self.read()
        return self.reset
