"""What a server reads from a connection."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cheroot.makefile import StreamWriter

_BUFFER = 64 << 10
"""Bytes; more than TLS decrypts at a time."""


class Reader(io.BufferedReader):
    """Stands where cheroot has its own, which is Python throughout: a body of many megabytes took it twice as long."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._source = _Source(connection, "rb")
        super().__init__(self._source, _BUFFER)

    def has_data(self) -> bool:
        """Whether there is some that no poll of the socket tells of."""
        decrypted = self._connection.pending() if isinstance(self._connection, ssl.SSLSocket) else 0
        return decrypted > 0 or bool(self.buffered())

    def buffered(self) -> bytes:
        """What was read from the connection already; it is read once more later."""
        with self._source.silent():
            return self.peek(_BUFFER)


class _Source(socket.SocketIO):
    """A connection that can be told to give nothing."""

    _is_silent = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False

    def readinto(self, buffer: Any) -> int | None:
        return None if self._is_silent else super().readinto(buffer)


def make_file(connection: socket.socket, mode: str, size: int) -> Reader | StreamWriter:
    """What cheroot asks for."""
    return Reader(connection) if "r" in mode else StreamWriter(connection, mode, size)
