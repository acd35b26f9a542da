"""cnmd as a server of the launcher's: HTTP over its Unix socket, by connections that are kept."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import quote

from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotBuilt, NotFound, Unavailable

_KEPT = 8
_SECONDS = 120.0
"""For an answer: a remote driver may be slow, and has its own limit."""
_ERRORS: dict[int, type[CnmError]] = {
    400: InvalidParameter,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    501: NotBuilt,
    503: Unavailable,
}


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class Cnmd:
    """Thread-safe: a request has a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changed: Callable[[], None] = lambda: None
        """Called after each request that may have changed something there."""
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON, None for no body. Raises what cnmd says, Unavailable where it is away."""
        content = b"" if body is None else json.dumps(body).encode()
        answer = self.forward(method, path, content)
        if answer.status >= 400:
            raise _ERRORS.get(answer.status, CnmError)(_message(answer))
        return json.loads(answer.body) if answer.body.strip() else None

    def forward(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> Answer:
        """The answer as it comes. Raises Unavailable where cnmd is away."""
        try:
            return self._forward(method, path, body, content_type)
        finally:
            if method != "GET":
                self.changed()

    def _forward(self, method: str, path: str, body: bytes, content_type: str) -> Answer:
        connection = self._take()
        while connection is not None:
            try:
                return self._exchange(connection, method, path, body, content_type)
            except (ConnectionError, HTTPException):
                connection = self._take()  # it was closed while it was kept
        try:
            return self._exchange(_Connection(self.path), method, path, body, content_type)
        except (OSError, HTTPException):
            raise self._away() from None

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens, from now on. Raises Unavailable at the start; ends when cnmd does."""
        connection = _Connection(self.path)
        try:
            connection.request("GET", "/events")
            response = connection.getresponse()
            connection.endless()
        except (OSError, HTTPException):
            connection.close()
            raise self._away() from None
        return self._lines(connection, response)

    def _lines(self, connection: _Connection, response: HTTPResponse) -> Iterator[dict[str, Any]]:
        try:
            while line := response.readline():
                yield json.loads(line)
        except (OSError, HTTPException, ValueError):
            return
        finally:
            connection.close()

    def _away(self) -> Unavailable:
        return Unavailable(
            f"cannot connect to cnmd at unix://{self.path}: is it running? start it with 'systemctl start cnmd'"
        )

    def _take(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _exchange(
        self, connection: _Connection, method: str, path: str, body: bytes, content_type: str
    ) -> Answer:
        try:
            connection.request(method, path, body or None, {"Content-Type": content_type} if body else {})
            response = connection.getresponse()
            answer = Answer(response.status, response.getheader("Content-Type", ""), response.read())
        except BaseException:
            connection.close()
            raise
        self._keep(connection, response)
        return answer

    def _keep(self, connection: _Connection, response: HTTPResponse) -> None:
        with self._lock:
            if not response.will_close and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("cnmd", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)

    def endless(self) -> None:
        """The answer may let wait for ever."""
        if self.sock is not None:
            self.sock.settimeout(None)


def _message(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"cnmd answers with status {answer.status}"


def escaped(reference: str) -> str:
    """As one segment of a path."""
    return quote(reference, safe="")
