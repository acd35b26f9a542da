"""Stands between dockerd and a plugin: counts the calls, and does something before the one asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

_PATIENCE = 60.0


class PluginProxy:
    """Listens at `path`, passes each request on to the plugin at `target`, one connection a request.

    `before` is called with the number of the call (from 1) and its path, ahead of passing it on; `after` with the path
    and the whole answer, ahead of handing that back.
    """

    def __init__(
        self,
        path: Path,
        target: str,
        before: Callable[[int, str], None] = lambda _number, _path: None,
        after: Callable[[str, bytes], None] = lambda _path, _answer: None,
    ) -> None:
        self.calls: list[str] = []
        self._path = path
        self.target = target
        self._before, self._after = before, after
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(_PATIENCE)
            while request := _read_message(client):
                with self._lock:
                    self.calls.append(request.split(b" ", 2)[1].decode())
                    self._before(len(self.calls), self.calls[-1])
                answer = self._ask(request)
                self._after(self.calls[-1], answer)
                client.sendall(answer)

    def _ask(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plugin:
            plugin.settimeout(_PATIENCE)
            plugin.connect(self.target)
            plugin.sendall(request)
            return _read_message(plugin)


def _read_message(source: socket.socket) -> bytes:
    """A request or an answer whole, b"" at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = source.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += source.recv(65536)
    return head + b"\r\n\r\n" + body
