"""HTTP as dockerd's plugin client speaks it: headers, bodies, kept connections, retries."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.fake_dockerd.errors import TransportError

_ACCEPT = "application/vnd.docker.plugins.v1.2+json"
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode(request: dict[str, Any] | None) -> bytes:
    """A body as Go's json.Encoder writes it: compact, some characters escaped, a newline; b"" for no request."""
    if request is None:
        return b""
    text = json.dumps(request, separators=(",", ":"), ensure_ascii=False)
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return f"{text}\n".encode()


@dataclass(frozen=True)
class Answer:
    """What came back, unread."""

    status: int
    body: bytes


class _NobodyListens(TransportError):
    """The request never left, so its body is still whole."""


class PluginClient:
    """Requests to the plugin that listens at `path`.

    Like Go's transport it keeps connections, and sends again without a word what a connection lost that had been
    idle. Other failures are retried after each of `delays` seconds; then the body has been read already and is empty
    unless nobody listened. dockerd waits 1, 2, 4 and 8 seconds.
    """

    def __init__(self, path: str, host: str, *, patience: float = 20.0, delays: Sequence[float] = ()) -> None:
        self._path, self._host, self._patience, self._delays = path, host, patience, tuple(delays)
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def post(self, path: str, body: bytes) -> Answer:
        """Raises TransportError when no attempt brought an answer."""
        for delay in self._delays:
            try:
                return self._attempt(path, body)
            except TransportError as error:
                body = body if isinstance(error, _NobodyListens) else b""
                time.sleep(delay)
        return self._attempt(path, body)

    def close(self) -> None:
        """Closes what is kept."""
        with self._lock:
            kept, self._idle = self._idle, []
        for connection in kept:
            connection.close()

    def _attempt(self, path: str, body: bytes) -> Answer:
        while kept := self._take():
            try:
                return self._exchange(kept, path, body)
            except (OSError, http.client.RemoteDisconnected):
                continue  # the server had closed it meanwhile
        try:
            return self._exchange(self._dial(), path, body)
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(f"{path}: {error!r}") from error

    def _take(self) -> socket.socket | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._patience)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise _NobodyListens(f"dial {self._path}: {error}") from error
        return connection

    def _exchange(self, connection: socket.socket, path: str, body: bytes) -> Answer:
        try:
            connection.sendall(self._head(path, len(body)) + body)
            response = http.client.HTTPResponse(connection, method="POST")
            response.begin()
            answer = Answer(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return answer

    def _head(self, path: str, length: int) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nUser-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {length}\r\nAccept: {_ACCEPT}\r\n\r\n"
        ).encode()
