"""Accepting connections, without spinning where they cannot be accepted."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from select import EPOLLIN

from cnm.sidecar.loop import Loop

log = logging.getLogger("cnm.sidecar")

_ACCEPTS_PER_ROUND = 64
_PAUSE = 0.5
"""Seconds without accepting when descriptors or memory are used up; clients wait in the backlog meanwhile."""
_USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Hands each connection of a listening socket to `accepted`. Does not own the socket."""

    def __init__(
        self, loop: Loop, listener: socket.socket, accepted: Callable[[socket.socket], None]
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._accepted = accepted
        self._watching = True
        listener.setblocking(False)
        loop.watch(listener.fileno(), EPOLLIN, self)

    def ready(self, descriptor: int, events: int) -> None:
        for _ in range(_ACCEPTS_PER_ROUND):
            try:
                connection, _peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _USED_UP:
                    self._pause(error)
                    return
                continue  # accept(2): a connection that failed before it was accepted
            self._accepted(connection)

    def close(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.forget(self._listener.fileno())

    def _pause(self, error: OSError) -> None:
        log.warning("no new connections for a moment: %s", error.strerror)
        self._loop.change(self._listener.fileno(), 0)
        self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._watching:
            self._loop.change(self._listener.fileno(), EPOLLIN)
