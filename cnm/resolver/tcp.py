"""DNS over TCP (RFC 7766) for one scope: many queries on a connection, none of which waits for another's client."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from cnm.sidecar.acceptor import Acceptor
from cnm.sidecar.loop import Loop

_MOST_CONNECTIONS = 32
"""Of one scope: more are closed at once."""
_IDLE_SECONDS = 10.0
"""Without a whole query, or while its answers are not read."""
_MOST_UNREAD_BYTES = 1 << 18
_MOST_WAITING = 64
"""Queries of a connection that are forwarded at the same time: further ones wait in its socket."""
_RECEIVE_BYTES = 1 << 16

Ask = Callable[[bytes, socket.socket, Callable[[bytes], None]], bool]
"""Given a query, the connection that it came over and where the answer goes; False where none will come."""


class TcpServer:
    """Accepts on `listener`, which it does not own."""

    def __init__(self, loop: Loop, listener: socket.socket, ask: Ask) -> None:
        self._loop = loop
        self._ask = ask
        self._acceptor = Acceptor(loop, listener, self._welcome)
        self._connections: set[_Connection] = set()
        self._closed = False
        self._looking = False

    def close(self) -> None:
        self._closed = True
        self._acceptor.close()
        for connection in list(self._connections):
            connection.close()

    def gone(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def _welcome(self, channel: socket.socket) -> None:
        if len(self._connections) >= _MOST_CONNECTIONS:
            channel.close()
            return
        self._connections.add(_Connection(self._loop, channel, self._ask, self.gone))
        if not self._looking:
            self._looking = True
            self._loop.call_later(_IDLE_SECONDS / 4, self._look)

    def _look(self) -> None:
        now = self._loop.clock()
        for connection in list(self._connections):
            if now - connection.active > _IDLE_SECONDS:
                connection.close()
        self._looking = bool(self._connections) and not self._closed
        if self._looking:
            self._loop.call_later(_IDLE_SECONDS / 4, self._look)


class _Connection:
    def __init__(
        self, loop: Loop, channel: socket.socket, ask: Ask, gone: Callable[[_Connection], None]
    ) -> None:
        self.active = loop.clock()
        """When it last asked a whole question, or took all of its answers."""
        self._loop = loop
        self._channel = channel
        self._ask = ask
        self._gone = gone
        self._read = bytearray()
        self._unread = bytearray()
        """Answers that the client has not taken yet."""
        self._waiting = 0
        self._closed = self._ended = self._taking = False
        channel.setblocking(False)
        loop.watch(channel.fileno(), EPOLLIN, self)

    def ready(self, descriptor: int, events: int) -> None:
        if events & (EPOLLHUP | EPOLLERR):
            self.close()  # nobody reads an answer any more
            return
        try:
            if events & EPOLLOUT:
                self._send()
            if events & EPOLLIN:
                self._receive()
        except OSError:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._gone(self)

    def _receive(self) -> None:
        try:
            piece = self._channel.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not piece:
            self._ended = True
            self._settle()
            return
        self._read += piece
        self._take_queries()

    def _take_queries(self) -> None:
        """All that are whole; an answer that is there at once must not begin this anew."""
        if self._taking:
            return
        self._taking = True
        self._take_each()
        self._taking = False
        self._settle()

    def _take_each(self) -> None:
        while not self._closed and self._waiting < _MOST_WAITING and len(self._read) >= 2:
            length = int.from_bytes(self._read[:2])
            if len(self._read) < 2 + length:
                return
            query = bytes(self._read[2 : 2 + length])
            del self._read[: 2 + length]
            self.active = self._loop.clock()
            self._waiting += 1
            if not self._ask(query, self._channel, partial(self._answer, [False])):
                self.close()  # nothing that a resolver would say

    def _answer(self, said: list[bool], answer: bytes) -> None:
        """Once for each query, whenever it comes."""
        if self._closed or said[0]:
            return
        said[0] = True
        self._waiting -= 1
        self._unread += len(answer).to_bytes(2) + answer
        if len(self._unread) > _MOST_UNREAD_BYTES:
            self.close()
            return
        try:
            self._send()
        except OSError:
            self.close()
            return
        self._take_queries()

    def _send(self) -> None:
        if self._unread:
            with contextlib.suppress(BlockingIOError):
                del self._unread[: self._channel.send(self._unread)]
        if not self._unread:
            self.active = self._loop.clock()
        self._settle()

    def _settle(self) -> None:
        """Wait for what is of use now; who has ended is let go when it has its answers."""
        if self._closed:
            return
        if self._ended and not self._waiting and not self._unread:
            self.close()
            return
        reading = not self._ended and self._waiting < _MOST_WAITING
        self._loop.change(
            self._channel.fileno(), (EPOLLIN if reading else 0) | (EPOLLOUT if self._unread else 0)
        )
