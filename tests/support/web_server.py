"""A web server on the loopback of a host of the test, that answers as the test likes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from netns_fixtures import Host
from tests.support.certificates import Certificate


class Asked(BaseHTTPRequestHandler):
    """One request."""

    def answer(self, status: int, content: bytes, kind: str = "application/json", size: int = -1) -> None:
        """`size` is what it says that the content has, where that is a lie."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if size < 0 else size))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_: object) -> None:
        """Tests tell what went wrong."""


@contextmanager
def web_server(
    host: Host, port: int, answer: Callable[[Asked], None], certificate: Certificate | None = None
) -> Iterator[None]:
    """Each GET and POST is for `answer`; with TLS where there is a certificate."""

    class Handler(Asked):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = host.socket()
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.socket.bind(("127.0.0.1", port))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
