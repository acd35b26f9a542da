"""A small HTTP/1.1 server at a Unix socket, for programs that tests stand in for."""

from __future__ import annotations

import contextlib
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "GET"


class Response(NamedTuple):
    status: int
    content_type: str
    body: bytes = b""
    stream: Iterable[bytes] | None = None
    """Sent as it comes, instead of a body."""


Answering = Callable[[Request], Response]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answering: Answering

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away before its answer is no error of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.answering(Request(self.path, dict(self.headers.items()), body, self.command))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        if answer.stream is not None:
            self._stream(answer.stream)
            return
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _stream(self, parts: Iterable[bytes]) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            for part in parts:
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.flush()

    do_GET = do_POST = do_DELETE = _serve

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
