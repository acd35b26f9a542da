"""Stands between the launcher and cnmd: counts requests, and kills cnmd before, during or after the one asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path

_PATIENCE = 60.0
_END_OF_HEAD = b"\r\n\r\n"
_UNASKED = ("GET /cnm/v1/sandboxes", "GET /cnm/v1/volumes")
"""What the launcher asks by itself whenever cnmd is back, at a moment of its own."""


class When(Enum):
    """BEFORE: cnmd has not got the request. DURING: it may be anywhere in it. AFTER: its answer is lost."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


class CnmdProxy:
    """Listens at `path`, asks the cnmd at `target`; a stream of events, and what nobody has asked the launcher for,
    is passed on, and not counted."""

    def __init__(self, path: Path, target: str, kill: Callable[[], None]) -> None:
        self.requests: list[str] = []
        """Method and path of those since `arm`."""
        self.has_killed = False
        self._path, self._target, self._kill = path, target, kill
        self._at, self._when, self._is_armed = -1, When.BEFORE, False
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, at: int = -1, when: When = When.BEFORE) -> None:
        """cnmd is killed around the request number `at`, from 0; by none for -1."""
        with self._lock:
            self.requests, self.has_killed = [], False
            self._at, self._when, self._is_armed = at, when, True

    def disarm(self) -> None:
        with self._lock:
            self._is_armed = False

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Where cnmd is away, the client's connection ends without an answer."""
        with client:
            try:
                while request := _message(client):
                    if not self._pass_on(client, request):
                        return
            except OSError:
                return

    def _pass_on(self, client: socket.socket, request: bytes) -> bool:
        """Whether the connection goes on."""
        method, path, _ = request.split(b" ", 2)
        is_stream = path.startswith(b"/events")
        when = None if is_stream else self._counted(f"{method.decode()} {path.decode()}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as cnmd:
            if when is When.BEFORE:
                return self._killed()
            cnmd.connect(self._target)
            cnmd.sendall(request)
            if is_stream:
                return _relay(cnmd, client)
            if when is When.DURING:
                return self._killed()
            cnmd.settimeout(_PATIENCE)
            answer = _message(cnmd)
            if when is When.AFTER:
                return self._killed()
            client.sendall(answer)
        return bool(answer)

    def _counted(self, text: str) -> When | None:
        """Not None for the one that cnmd does not outlive."""
        with self._lock:
            if not self._is_armed or text in _UNASKED:
                return None
            self.requests.append(text)
            return self._when if len(self.requests) - 1 == self._at else None

    def _killed(self) -> bool:
        self._kill()
        self.has_killed = True
        return False


def _relay(source: socket.socket, target: socket.socket) -> bool:
    while piece := source.recv(65536):
        target.sendall(piece)
    return False


def _message(source: socket.socket) -> bytes:
    """A request or an answer whole, b"" at the end of the connection."""
    data = b""
    while _END_OF_HEAD not in data:
        piece = source.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(_END_OF_HEAD)
    length = _length(head)
    while len(body) < length:
        piece = source.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + _END_OF_HEAD + body


def _length(head: bytes) -> int:
    lines = (line.lower() for line in head.split(b"\r\n"))
    return next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
