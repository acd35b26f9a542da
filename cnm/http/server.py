"""The HTTP server: cheroot on a Unix socket, or on TCP with TLS; idle clients and long streams cost no worker.

cheroot gives a connection to a worker as soon as it is accepted, and keeps it there for as long as the answer
lasts. Here a connection gets a worker only while it has something to say (a request, the next word of a TLS
handshake), and a stream moves to a thread of its own; so does a request that its app calls slow, before anything of
its body is read.
cheroot's type stubs lack what is overridden here, or have it wrong: hence the ignored errors.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from cheroot import connections, server, wsgi

import cnm
from cnm.http import tls, upgrade
from cnm.http.listener import Place, UnixPlace
from cnm.http.reader import make_file
from cnm.http.workers import WorkerPool
from cnm.wire import codec

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger("cnm.http")

LONG_STREAM = "cnm.long_stream"
"""Key of the WSGI environment by which an app has its answer served from a thread of its own."""

UPGRADE = "cnm.upgrade"
"""Key of the WSGI environment by which an app takes the connection over: a callable (cnm.http.upgrade.Taker).

Its answer gives the headers, and no body.
"""

HAS_LEFT = "cnm.has_left"
"""Key of the WSGI environment with a callable that says whether the client has gone."""

PATIENCE = "cnm.patience"
"""Key of the WSGI environment with a context in which the client may be silent for as long as it likes.

For requests that are few, and where the connection must be kept: a client that is silent has a worker to itself.
"""

PEER_CERTIFICATE = "cnm.peer_certificate"
"""Key of the WSGI environment with the certificate that the client showed (DER), where it showed one."""

_LEAST_WORKERS = 4
_IDLE_SECONDS = 10
"""After which a connection that says nothing is closed, and half a request refused."""
_LOOK_SECONDS = 5.0
"""Between two looks for such connections."""
_NEXT_REQUEST_SECONDS = 0.05
"""For which a worker that nobody else waits for stays with a connection: it saves two changes of threads."""
_DRAINED = 16 * 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that its sender comes to read the refusal."""
_PIECE = 32 << 10
"""Bytes; Go's clients send bodies in chunks of so many."""
_LINGER_SECONDS = 1.0
"""For which a body that nobody wants is taken off its sender, who has the answer by then: Go's waits half of it."""


class Server:
    """Serves `app` at `place`, with at most `threads` requests at a time.

    What the server itself refuses is said as a JSON object with the one key `error_key`. `is_slow` says of a request's
    method and path whether it takes as long as its client likes: any number of those are served beside the `threads`,
    and their clients may be silent, and deaf, for as long as they like.
    """

    def __init__(
        self,
        app: WSGIApplication,
        place: Place,
        threads: int = 64,
        *,
        error_key: str = "message",
        is_slow: Callable[[str, str], bool] = lambda _method, _path: False,
    ) -> None:
        self._place = place
        self._http = _HttpServer(place, app, threads, error_key, is_slow)

    def bind(self) -> None:
        """Listen; connections wait from now on. Raises Conflict when another daemon listens there."""
        self._http.listener = self._place.listen()
        self._http.prepare()

    def serve(self) -> None:
        """Answer requests until `stop`."""
        self._http.serve()

    def stop(self) -> None:
        """Finish the requests that have begun, close everything else. Works from any thread, and twice."""
        if self._http.ready:
            self._http.stop()
            self._place.leave(self._http.listener)


class _Connections(connections.ConnectionManager):
    """Connections without a request in them wait here, new ones too where workers are short, and not in a worker."""

    def stop(self) -> None:
        self._stop_requested = True
        self.server.place.wake()
        super().stop()

    def _from_server_socket(self, server_socket: socket.socket) -> _Connection | None:
        """Accept; None tells cheroot that there is nothing to serve yet."""
        try:
            connection: _Connection | None = super()._from_server_socket(server_socket)  # type: ignore[misc]
        except OSError as error:  # out of descriptors: the connection stays in the queue until one is free
            log.error("cannot accept a connection: %s", error.strerror)
            time.sleep(0.1)
            return None
        if connection is not None and self.server.requests.idle:
            connection.is_new = True
            return connection
        if connection is not None:
            self.put(connection)
        return None


class _Request(server.HTTPRequest):
    """Refuses in the API's own form, and leaves no unread body for the next request to stumble on."""

    def respond(self) -> None:
        """A slow one is left to a thread; the worker then gives the connection back as if to be kept."""
        method, path = self.method.decode("latin-1"), self.uri.partition(b"?")[0].decode("latin-1")
        if self.server.is_slow(method, path):
            self.conn.stream = _Slow(self.conn, self)
            self.close_connection = False
        else:
            self.respond_here()

    def respond_here(self) -> None:
        super().respond()

    def simple_response(self, status: str | int, msg: str = "") -> None:
        """What cheroot refuses before any app sees it."""
        self.close_connection = True
        body = codec.encode({self.server.error_key: (msg or str(status)[4:]).rstrip(".").lower()})
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):
            self.conn.wfile.write(head.encode("latin-1") + body)

    def send_headers(self) -> None:
        if self.status[:3] == b"413":  # type: ignore[comparison-overlap]
            self._drain(self.rfile)
        is_whole = self.rfile.closed if self.chunked_read else not getattr(self.rfile, "remaining", 0)
        if not is_whole and (self.chunked_read or self.close_connection):
            self.close_connection = self.conn.lingers = True
        super().send_headers()

    def _drain(self, body: Any) -> None:
        left = _DRAINED
        with suppress(OSError, ValueError):
            while left > 0 and (piece := body.read(65536)):
                left -= len(piece)


class _Connection(server.HTTPConnection):
    RequestHandlerClass = _Request
    stream: _Stream | _Taken | _Slow | None = None
    is_new = False
    """Whether it came to a worker before its first byte was heard."""
    lingers = False
    """Whether the client may be sending a body of unknown length to an answer that did without."""

    def __init__(self, server: _HttpServer, connection: socket.socket, _makefile: object) -> None:
        super().__init__(server, connection, make_file)
        self._since = time.monotonic()

    def proceed(self) -> bool:
        """A step of the TLS handshake, or one request; returns whether the connection is to be kept."""
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.version() is None:
            return self._shake_hands(self.socket)
        return bool(self.communicate())  # type: ignore[no-untyped-call]

    @contextmanager
    def patiently(self) -> Iterator[None]:
        self.socket.settimeout(None)
        try:
            yield
        finally:
            self.socket.settimeout(_IDLE_SECONDS)

    def close(self) -> None:
        if self.lingers:
            with suppress(OSError):
                self._linger()
        super().close()

    def _linger(self) -> None:
        """Who is refused while it writes shall read why, and not find the connection closed (RFC 9112, 9.6)."""
        self.socket.shutdown(socket.SHUT_WR)
        until = time.monotonic() + _LINGER_SECONDS
        while self._poll(select.POLLIN, max(0.0, until - time.monotonic())) and self.socket.recv(65536):
            pass

    def _shake_hands(self, connection: ssl.SSLSocket) -> bool:
        progress = tls.step(connection, self.server.place)
        if progress is tls.Handshake.WAITING and time.monotonic() - self._since > _IDLE_SECONDS:
            tls.refuse(connection, self.server.place, TimeoutError("the handshake takes too long"))
            return False
        return progress is not tls.Handshake.REFUSED

    def abandoned(self) -> bool:
        """Whether the client has gone."""
        return self._poll(0, 0)  # hang-ups are told unasked

    def speaks(self) -> bool:
        """Whether a request comes soon: the first, or the next right behind the answer."""
        return self._poll(select.POLLIN, _NEXT_REQUEST_SECONDS)

    def _poll(self, events: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.socket, events)
        return bool(poll.poll(seconds * 1000))


class _Stream:
    """An answer without a foreseeable end, written from a thread of its own; its client may read when it likes."""

    def __init__(self, connection: _Connection, chunks: Iterable[bytes], chunked: bool) -> None:
        self._connection = connection
        self._chunks = chunks
        self._chunked = chunked

    def start(self) -> None:
        threading.Thread(target=self._run, name="api-stream", daemon=True).start()

    def close(self) -> None:
        """Cut the client off; the thread ends at its next heartbeat."""
        with suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with suppress(OSError), ExitStack() as finish:
            finish.callback(self._connection.close)
            finish.callback(self._connection.server.streams.discard, self)
            self._connection.socket.settimeout(None)
            try:
                self._write_all()
            except Exception:
                log.exception("a stream failed")
            self._close_chunks()

    def _close_chunks(self) -> None:
        try:
            getattr(self._chunks, "close", lambda: None)()
        except Exception:
            log.exception("a stream did not end well")

    def _write_all(self) -> None:
        """What an app raises goes on; its client hears of it by the answer that does not end as it should."""
        for chunk in self._chunks:
            if not self._write(chunk):
                return
        if self._chunked:
            self._send(b"0\r\n\r\n")

    def _write(self, chunk: bytes) -> bool:
        """False where the client has gone."""
        if not chunk:
            return not self._connection.abandoned()
        return self._send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    def _send(self, data: bytes) -> bool:
        try:
            self._connection.wfile.write(data)
        except OSError as error:
            log.debug("a stream's client went away: %s", error)
            return False
        return True


class _Slow:
    """A request that a thread of its own reads and answers."""

    def __init__(self, connection: _Connection, request: _Request) -> None:
        self._connection = connection
        self._request = request

    def start(self) -> None:
        threading.Thread(target=self._run, name="api-slow", daemon=True).start()

    def close(self) -> None:
        """Cut the client off; whoever works for it sees that it went away."""
        with suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        connection = self._connection
        self._answer()
        if isinstance(connection.stream, _Stream | _Taken):
            connection.stream._run()
        else:
            with suppress(OSError):
                connection.close()
        connection.server.streams.discard(self)

    def _answer(self) -> None:
        self._connection.socket.settimeout(None)
        self._request.close_connection = True
        try:
            self._request.respond_here()
        except OSError as error:
            log.debug("a client went away: %s", error)
        except Exception:
            log.exception("a request failed")


class _Taken:
    """A connection that an app has taken over, in a thread of its own."""

    def __init__(self, connection: _Connection, taker: upgrade.Taker) -> None:
        self._connection = connection
        self._taker = taker
        self._early: bytes = connection.rfile.buffered()

    def start(self) -> None:
        threading.Thread(target=self._run, name="api-taken", daemon=True).start()

    def close(self) -> None:
        """Cut the client off; the app sees that it went away."""
        with suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        connection = self._connection
        try:
            connection.socket.settimeout(None)
            self._taker(upgrade.Connection(connection.socket, self._early))
        except OSError as error:
            log.debug("a client went away: %s", error)
        except Exception:
            log.exception("a connection that was taken over failed")
        finally:
            connection.server.streams.discard(self)
            upgrade.finish(connection.socket)
            with suppress(OSError):
                connection.close()


class _Body:
    """A body in chunks: a client that goes away amid it is an OSError, and not a chunk that is none."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks

    def read(self, size: int | None = None) -> bytes:
        """Of at most `size` bytes, of all without it. Raises OSError."""
        try:
            return b"".join(self._pieces(sys.maxsize if size is None else size))
        except ValueError as error:
            raise ConnectionResetError(f"the client does not end its body: {error}") from None

    def _pieces(self, size: int) -> Iterator[bytes]:
        """Small ones: what the library reads it puts together by adding each chunk to all that came before."""
        while size > 0 and (piece := self._chunks.read(min(size, _PIECE))):
            yield piece
            size -= len(piece)


class _Gateway(wsgi.Gateway_10):
    """WSGI as the standard has it (the path fully unquoted), streams and connections handed over."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ[HAS_LEFT] = self.req.conn.abandoned
        environ[PATIENCE] = self.req.conn.patiently
        if self.req.chunked_read:
            environ["wsgi.input"] = _Body(environ["wsgi.input"])
        environ["PATH_INFO"] = unquote_to_bytes(self.req.uri.partition(b"?")[0]).decode("latin-1")
        if isinstance(self.req.conn.socket, ssl.SSLSocket):
            environ[PEER_CERTIFICATE] = self.req.conn.socket.getpeercert(binary_form=True)
        return environ

    def respond(self) -> None:
        chunks = self.req.server.wsgi_app(self.env, self.start_response)
        if (taker := self.env.get(UPGRADE)) and self.req.status[:1] in b"12":
            self._give_away(chunks, taker)
            return
        if self.env.get(LONG_STREAM):
            self._hand_over(chunks)
            return
        try:
            for chunk in chunks:
                if chunk:
                    self.write(chunk)
        finally:
            self.req.ensure_headers_sent()
            if hasattr(chunks, "close"):
                chunks.close()

    def _hand_over(self, chunks: Iterable[bytes]) -> None:
        """Send the headers; the worker then gives the connection back as if to be kept, and a thread gets it."""
        request = self.req
        request.outheaders.append((b"Connection", b"close"))
        request.ensure_headers_sent()
        request.conn.stream = _Stream(request.conn, chunks, request.chunked_write)
        request.chunked_write = False
        request.close_connection = False

    def _give_away(self, chunks: Iterable[bytes], taker: upgrade.Taker) -> None:
        """Send the head of the answer; what follows is the app's."""
        getattr(chunks, "close", lambda: None)()
        request = self.req
        while request.rfile.read(65536):  # what the app left of the body is none of its connection
            pass
        request.sent_headers = True
        request.conn.wfile.write(upgrade.head(request.outheaders, upgrade.wanted(request.inheaders)))
        request.conn.stream = _Taken(request.conn, taker)
        request.chunked_write = False
        request.close_connection = False


class _HttpServer(wsgi.Server):
    """cheroot with the parts above; `listener` is set before `prepare`."""

    ConnectionClass = _Connection
    keep_alive_conn_limit = None  # type: ignore[assignment]
    expiration_interval = _LOOK_SECONDS
    max_request_header_size = 64 * 1024
    listener: socket.socket

    def __init__(
        self,
        place: Place,
        app: WSGIApplication,
        threads: int,
        error_key: str,
        is_slow: Callable[[str, str], bool],
    ) -> None:
        super().__init__(str(place), app, server_name=f"cnm/{cnm.__version__} (linux)", timeout=_IDLE_SECONDS)
        self.place, self.error_key, self.is_slow = place, error_key, is_slow
        self.peercreds_enabled = isinstance(place, UnixPlace)
        self.ssl_adapter = tls.Adapter(place.tls) if place.tls else None
        self.gateway = _Gateway
        self.software = self.server_name
        self.requests = WorkerPool(self._serve_connection, min(_LEAST_WORKERS, threads), threads)
        self.streams: set[_Stream | _Taken | _Slow] = set()

    def prepare(self) -> None:
        """cheroot's own would bind anew, or take systemd's descriptor 3 for its socket."""
        self.socket = self.listener
        self.socket.settimeout(1)
        self._connections = _Connections(self)
        self.requests.start()
        self.ready = True

    def put_conn(self, conn: _Connection) -> None:
        if conn.stream is None:
            super().put_conn(conn)
            return
        self.streams.add(conn.stream)
        conn.stream.start()
        if not self.ready:
            conn.stream.close()

    def stop(self) -> None:
        super().stop()
        for stream in list(self.streams):
            stream.close()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        log.log(level, "%s", msg, exc_info=traceback)

    def _serve_connection(self, conn: _Connection) -> None:
        keep, heard = True, not conn.is_new
        conn.is_new = False
        try:
            while keep and conn.stream is None and (heard or self._may_wait_for(conn)):
                keep = heard = False
                keep = conn.proceed()
        finally:
            if keep:
                self.put_conn(conn)
            else:
                conn.close()

    def _may_wait_for(self, conn: _Connection) -> bool:
        """Whether the worker stays with a connection, and has its next request."""
        return bool(self.ready and self.requests.idle and conn.speaks())
