"""A connection that an app takes over from HTTP, as `docker attach` and `docker exec` have it ("hijacking")."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

RAW_STREAM = "application/vnd.docker.raw-stream"
"""What such a connection carries, where the app's answer does not say."""

_DROPPED = ("content-length", "content-type", "connection", "transfer-encoding", "upgrade")


class Connection(NamedTuple):
    """The app's from now on, until its callable returns: then the server closes it."""

    socket: socket.socket
    """Blocking; both ways can be ended by themselves (`shutdown`)."""
    early: bytes
    """What the client has sent behind its request."""


Taker = Callable[[Connection], None]
"""What an app puts into the WSGI environment; it runs in a thread of its own."""


def wanted(headers: dict[bytes, bytes]) -> bool:
    """Whether the client asked for an upgrade; others speak raw after the head of the answer all the same."""
    return b"Upgrade" in headers


def head(headers: Iterable[tuple[bytes, bytes]], upgraded: bool) -> bytes:
    """The answer, in dockerd's form (api/server/router/container): "101 UPGRADED", or 200 without a length."""
    kept = list(headers)
    kind = next((value for name, value in kept if name.lower() == b"content-type"), RAW_STREAM.encode())
    lines = [b"HTTP/1.1 101 UPGRADED" if upgraded else b"HTTP/1.1 200 OK", b"Content-Type: " + kind]
    if upgraded:
        lines += [b"Connection: Upgrade", b"Upgrade: tcp"]
    lines += [name + b": " + value for name, value in kept if name.lower().decode("latin-1") not in _DROPPED]
    return b"\r\n".join((*lines, b"", b""))


def finish(connection: socket.socket) -> None:
    """End both ways, so that the client reads all that it was sent: bytes that nobody read would cut it off."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.setblocking(False)
        while connection.recv(65536):
            pass
