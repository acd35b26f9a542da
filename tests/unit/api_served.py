"""The control API on a real Unix socket, and the few words of HTTP that its tests speak."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnm.api.wsgi import create_app
from cnm.http.listener import UnixPlace
from cnm.http.server import Server
from tests.unit.memory_backend import MemoryBackend
from tests.unit.memory_cluster import MemoryCluster

PATIENCE = 20.0
"""Seconds until a test gives up on an answer."""


class Served:
    """A running server; `backend` is what it serves, `path` its socket."""

    def __init__(self, path: str, threads: int) -> None:
        self.path = path
        self.backend = MemoryBackend()
        self.cluster = MemoryCluster()
        self.server = Server(create_app(self.backend, self.cluster), UnixPlace(path), threads=threads)
        self.server.bind()
        self._thread = threading.Thread(target=self.server.serve)
        self._thread.start()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def dial(self) -> socket.socket:
        """A connection on which nothing is said yet."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        return client

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own: status and JSON."""
        with self.dial() as client:
            status, content = request(client, method, path, body)
        return status, json.loads(content) if content.strip() else None


@contextmanager
def serving(folder: Path, threads: int = 2) -> Iterator[Served]:
    """A server in `folder` for as long as the context lasts."""
    served = Served(os.path.join(folder, "cnm.sock"), threads)
    try:
        yield served
    finally:
        served.stop()


def request(client: socket.socket, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """A request on a connection that stays open: status and body."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: cnm\r\nContent-Length: {len(content)}\r\n"
    head += "Content-Type: application/json\r\n\r\n" if content else "\r\n"
    client.sendall(head.encode() + content)
    return answer(client, method)


def answer(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    """The next answer on a connection: status and body."""
    response = http.client.HTTPResponse(client, method=method)
    response.begin()
    content = response.read()
    return response.status, content


def follow(served: Served, path: str) -> http.client.HTTPResponse:
    """A stream whose headers have arrived; its lines are read with `readline`."""
    client = served.dial()
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: cnm\r\n\r\n".encode())
    response = http.client.HTTPResponse(client)
    client.close()  # the response keeps the descriptor open, and closes it with itself
    response.begin()
    assert response.status == 200
    return response
