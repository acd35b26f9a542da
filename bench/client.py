"""The leanest client that still speaks HTTP to cnmd: one kept connection, requests built beforehand."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Client:
    """One kept connection to the Unix socket `path`. Not thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = self._connected()

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(60)
        made.connect(self._path)
        return made

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, request: bytes) -> bytes:
        """The body of the answer, which must be a success; RuntimeError with what it says otherwise."""
        self.begin(request)
        return self.finish(request)

    def begin(self, request: bytes) -> None:
        """Send, and do not wait: `finish` does. A connection that the server closed, as it was idle, is made anew."""
        if self._is_closed():
            self._socket.close()
            self._socket = self._connected()
        self._socket.sendall(request)

    def _is_closed(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))  # nothing was asked, so nothing else can be there

    def finish(self, request: bytes) -> bytes:
        """The answer to `request`, as `send` returns it."""
        head, _, body = self._receive_head().partition(_HEAD_END)
        missing = _length(head) - len(body)
        while missing > 0:
            piece = self._receive()
            body += piece
            missing -= len(piece)
        if head[9:10] != b"2":
            line = head.partition(b"\r\n")[0].decode()
            raise RuntimeError(f"{request.partition(b' HTTP')[0].decode()}: {line} {body.decode()}")
        return body

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer, None for an empty one."""
        answer = self.send(request(method, path, body))
        return json.loads(answer) if answer.strip() else None

    def _receive_head(self) -> bytes:
        data = self._receive()
        while _HEAD_END not in data:
            data += self._receive()
        return data

    def _receive(self) -> bytes:
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise RuntimeError("the daemon closed the connection")
        return piece


def request(method: str, path: str, body: Any = None) -> bytes:
    """The bytes of a request, ready to be sent any number of times."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: cnm\r\nContent-Length: {len(data)}\r\n"
    if data:
        head += "Content-Type: application/json\r\n"
    return head.encode() + b"\r\n" + data


def _length(head: bytes) -> int:
    """Of the body; none means that there is none."""
    lower = head.lower()
    start = lower.find(_LENGTH)
    return int(lower[start + len(_LENGTH) :].partition(b"\r\n")[0]) if start >= 0 else 0
