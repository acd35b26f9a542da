"""TCP through the relay: accept, connect to the target, carry both ways with half-close, back-pressure and resets.

Data passes through one buffer that all connections share: two system calls for up to 128 KiB, and a copy is kept only
of what the receiver does not take at once. splice(2) was measured beside it: with pipes of 1 MiB it costs a third less
processor time in bulk, with pipes of 64 KiB as much; but it takes four descriptors more for each connection, and an
unprivileged user's pipes are limited to 64 MiB in all, so that hundreds of connections would run with tiny ones.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from cnm.sidecar.acceptor import Acceptor
from cnm.sidecar.loop import Loop

log = logging.getLogger("cnm.relay")

Target = tuple[str, int]
"""Bare address text and port."""

_BACKLOG = 4096
_BUFFER = memoryview(bytearray(128 * 1024))
_READS_PER_ROUND = 8
_SYN_RETRIES = 4
"""Connecting gives up after 31 s (tcp(7), TCP_SYNCNT) instead of two minutes."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close sends RST, and leaves nothing in TIME_WAIT."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""A peer that vanished is noticed after two minutes; seconds, seconds, probes."""


class TcpRelay:
    """A bound socket, listening from now on, and the connections that came through it."""

    protocol = "tcp"

    def __init__(self, loop: Loop, listener: socket.socket, target: Target) -> None:
        """Raises OSError when the socket cannot listen. Owns `listener`."""
        self.socket = listener
        self.target = target
        self._loop = loop
        self._connections: set[_Connection] = set()
        _listen(listener)
        self._acceptor = Acceptor(loop, listener, self._relay)

    def close(self) -> None:
        """Reset the connections and stop listening.

        Duplicates of the socket keep the port reserved, if it was bound by its number: the kernel takes one that it
        chose itself away with the listening.
        """
        self._acceptor.close()
        for connection in list(self._connections):
            connection.abort()
        # Another process holds this socket too, and closing it here would leave it listening there.
        with contextlib.suppress(OSError):  # the other process did it first
            self.socket.shutdown(socket.SHUT_RD)
        self.socket.close()

    def _relay(self, client: socket.socket) -> None:
        try:
            server = _connecting(self.target)
        except OSError as error:
            log.warning("%s port %d: %s", *self.target, error.strerror)
            _reset(client)
            return
        # What stays behind in TIME_WAIT does not keep the port from being published again.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for end in (client, server):
            _configure(end)
        self._connections.add(_Connection(self._loop, client, server, self._connections.discard))


def _connecting(target: Target) -> socket.socket:
    """A socket on its way to the target. Raises OSError when the way is known to be closed."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _SYN_RETRIES)
        number = server.connect_ex(target)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except OSError:
        server.close()
        raise
    return server


def _configure(end: socket.socket) -> None:
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        end.setsockopt(socket.IPPROTO_TCP, option, value)


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    end.close()


class _Side:
    """One socket of a connection, and how far each of its directions has come."""

    __slots__ = ("ended", "events", "hung_up", "pending", "shut", "socket")

    def __init__(self, end: socket.socket, events: int) -> None:
        self.socket = end
        self.events: int | None = events
        """What is watched for; None when nothing is, not even errors."""
        self.pending: memoryview | None = None
        """Read from the other side, not taken by this one yet: until it is, no more is read there."""
        self.ended = False
        """It sent its FIN."""
        self.shut = False
        """It was sent the other's FIN."""
        self.hung_up = False
        """Both directions have seen their FIN; epoll says so for as long as it is watched, read to the end or not."""


def _listen(listener: socket.socket) -> None:
    """Connections that rest at this port (TIME-WAIT) are looked at once more here, as they were at the bind."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # For this call only, so that nobody else can share the port afterwards.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.listen(_BACKLOG)
        finally:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


class _Connection:
    """Two sides. Until the server's is connected nothing is read from the client's."""

    def __init__(
        self, loop: Loop, client: socket.socket, server: socket.socket, closed: Callable[[_Connection], None]
    ) -> None:
        self._loop = loop
        self._closed = closed
        self._client = _Side(client, 0)
        self._server = _Side(server, EPOLLOUT)
        self._connected = False
        for side in (self._client, self._server):
            loop.watch(side.socket.fileno(), side.events or 0, self)

    def ready(self, descriptor: int, events: int) -> None:
        side, other = self._client, self._server
        if descriptor != side.socket.fileno():
            side, other = other, side
        try:
            self._advance(side, other, events)
        except OSError:
            self.abort()
            return
        if side.shut and other.shut:
            self._close()
            return
        self._watch(side, other)
        self._watch(other, side)

    def abort(self) -> None:
        """Reset both sides."""
        for side in (self._client, self._server):
            side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._close()

    def _close(self) -> None:
        for side in (self._client, self._server):
            if side.events is not None:
                self._loop.forget(side.socket.fileno())
            side.socket.close()
        self._closed(self)

    def _advance(self, side: _Side, other: _Side, events: int) -> None:
        """Do what has become possible. Raises OSError when a side failed or was reset."""
        watched = side.events or 0
        side.hung_up |= bool(events & EPOLLHUP)
        if events & EPOLLERR and not watched & EPOLLIN:
            raise OSError(side.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "connection failed")
        if not self._connected:
            self._connected = side is self._server
            return
        if events & EPOLLOUT and side.pending is not None:
            sent = _send(side.socket, side.pending)
            side.pending = side.pending[sent:] if sent < len(side.pending) else None
        if events & ~EPOLLOUT and watched & EPOLLIN:
            self._carry(side, other)

    def _carry(self, source: _Side, sink: _Side) -> None:
        for _ in range(_READS_PER_ROUND):
            try:
                count = source.socket.recv_into(_BUFFER)
            except BlockingIOError:
                return
            if count == 0:
                source.ended = sink.shut = True
                sink.socket.shutdown(socket.SHUT_WR)
                return
            sent = _send(sink.socket, _BUFFER[:count])
            if sent < count:
                sink.pending = memoryview(bytes(_BUFFER[sent:count]))
                return
            if count < len(_BUFFER):
                return

    def _watch(self, side: _Side, other: _Side) -> None:
        """Watch for what the side can do next; for a reset in any case."""
        wanted = 0 if side.ended or other.pending is not None else EPOLLIN
        if side.pending is not None:
            wanted |= EPOLLOUT
        events = None if not wanted and side.hung_up else wanted
        if events == side.events:
            return
        descriptor = side.socket.fileno()
        if events is None:
            self._loop.forget(descriptor)
        elif side.events is None:
            self._loop.watch(descriptor, events, self)
        else:
            self._loop.change(descriptor, events)
        side.events = events


def _send(sink: socket.socket, data: memoryview) -> int:
    try:
        return sink.send(data)
    except BlockingIOError:
        return 0
