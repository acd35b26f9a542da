"""A small HTTP/1.1 server at a Unix socket, for programs that tests stand in for."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple


class Request(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    status: int
    content_type: str
    body: bytes


Answering = Callable[[Request], Response]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answering: Answering


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.answering(Request(self.path, dict(self.headers.items()), body))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def serve(answering: Answering, socket: Path) -> Iterator[None]:
    """At its socket for as long as the context lasts; `answering` is called by many threads."""
    with _Server(str(socket), _Handler) as server:
        server.answering = answering
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            socket.unlink()
