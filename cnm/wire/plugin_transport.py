"""HTTP to one plugin, over a Unix socket, TCP or TLS: connections are kept, a call has a time limit as a whole.

The whole body is sent again when a kept connection turns out to be closed, as a plugin that restarted closes it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cnm.errors import CnmError, Unavailable
from cnm.wire.plugin import CONTENT_TYPE
from cnm.wire.plugin_discovery import PluginAddress

if TYPE_CHECKING:
    import ssl

UNIX_HOST = "plugin.moby.localhost"
"""What dockerd calls a plugin behind a Unix socket."""
_KEPT = 4
_LARGEST_ANSWER = 16 << 20
_HEADERS = {"Accept": CONTENT_TYPE, "User-Agent": "cnm"}


class Answer(NamedTuple):
    status: int
    body: bytes


class TransportError(Unavailable):
    """The plugin was not reached, or hung up before it answered: trying again may help."""


class TooLate(Unavailable):
    """The time limit of a call is over."""


class BrokenAnswer(CnmError):
    """The plugin began to answer, in no way that HTTP knows."""


class Transport(Protocol):
    """Where fakes plug in."""

    def post(self, path: str, body: bytes, seconds: float) -> Answer:
        """Raises TransportError, TooLate, BrokenAnswer; the message is for behind "plugin NAME: "."""

    def close(self) -> None: ...


class HttpTransport:
    """Thread-safe: each call has a connection of its own."""

    def __init__(self, address: PluginAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def post(self, path: str, body: bytes, seconds: float) -> Answer:
        deadline = time.monotonic() + seconds
        kept = self._take()
        while kept is not None:
            try:
                return self._exchange(kept, path, body, deadline)
            except TransportError:
                kept = self._take()  # closed while it was idle, as those kept for longer are
        return self._exchange(_Connection(self._address), path, body, deadline)

    def _take(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _exchange(self, connection: _Connection, path: str, body: bytes, deadline: float) -> Answer:
        """Errors while the answer's head is waited for are the transport's, later ones the answer's."""
        try:
            response = _heard(connection, path, body, deadline)
            answer = _read(response)
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        return answer

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _heard(connection: _Connection, path: str, body: bytes, deadline: float) -> HTTPResponse:
    try:
        connection.limit(deadline)
        connection.request("POST", path, body or None, {**_HEADERS, **connection.host_header})
        return connection.getresponse()
    except TimeoutError:
        raise TooLate("did not answer in time") from None
    except (
        ConnectionError
    ) as error:  # also that of http.client for a connection that was closed without a word
        raise TransportError(f"cannot be reached: {_words(error)}") from None
    except OSError as error:
        raise _refined(error) from None
    except HTTPException as error:
        raise BrokenAnswer(f"no HTTP answer: {type(error).__name__}") from None


def _refined(error: OSError) -> CnmError:
    """A certificate that is not trusted will not be trusted in a second either."""
    if type(error).__name__ == "SSLCertVerificationError":
        return BrokenAnswer(f"TLS: {getattr(error, 'verify_message', '') or error}")
    return TransportError(f"cannot be reached: {_words(error)}")


def _read(response: HTTPResponse) -> Answer:
    try:
        body = response.read(_LARGEST_ANSWER + 1)
        left = response.length
    except TimeoutError:
        raise TooLate("did not answer in time") from None
    except (OSError, HTTPException):
        raise BrokenAnswer("the answer breaks off") from None
    if len(body) > _LARGEST_ANSWER:
        raise BrokenAnswer(f"the answer is longer than {_LARGEST_ANSWER >> 20} MiB")
    if left:
        raise BrokenAnswer("the answer breaks off")
    return Answer(response.status, body)


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error) or "connection closed"


class _Limited:
    """Of a socket: reading and writing end at `deadline`, however often something small arrives before."""

    deadline = float("inf")

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        _restrict(self)
        return int(super().recv_into(*arguments, **options))  # type: ignore[misc]

    def sendall(self, *arguments: Any, **options: Any) -> None:
        _restrict(self)
        super().sendall(*arguments, **options)  # type: ignore[misc]


def _restrict(limited: Any) -> None:
    left = limited.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    limited.settimeout(None if left == float("inf") else left)


class _Socket(_Limited, socket.socket):
    pass


class _Connection(HTTPConnection):
    def __init__(self, address: PluginAddress) -> None:
        super().__init__(address.host or UNIX_HOST, address.port or None)
        self._address = address
        self._deadline = 0.0
        self.host_header = {"Host": UNIX_HOST} if address.scheme == "unix" else {}

    def limit(self, deadline: float) -> None:
        """No call on this connection goes on after `deadline` (of time.monotonic)."""
        self._deadline = deadline
        if isinstance(self.sock, _Limited):
            self.sock.deadline = deadline

    def connect(self) -> None:
        seconds = max(self._deadline - time.monotonic(), 0.001)
        address = self._address
        if address.scheme == "unix":
            plain = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock = plain
            plain.settimeout(seconds)
            plain.connect(address.path)
        else:
            made = socket.create_connection((address.host, address.port), seconds)
            self.sock = plain = _Socket(fileno=made.detach())
            plain.settimeout(seconds)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.scheme == "https":
            self.sock = _context(address).wrap_socket(plain, server_hostname=address.host)
        self.limit(self._deadline)


def _context(address: PluginAddress) -> ssl.SSLContext:
    """Raises BrokenAnswer naming a file that cannot be used."""
    import ssl

    class _TlsSocket(_Limited, ssl.SSLSocket):
        pass

    tls = address.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _TlsSocket
    if tls.insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
        if tls.cert_file or tls.key_file:
            context.load_cert_chain(tls.cert_file, tls.key_file or None)
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (tls.ca_file, tls.cert_file, tls.key_file)))
        raise BrokenAnswer(
            f"TLS files of {address.source} cannot be used ({files}): {_words_of(error)}"
        ) from None
    return context


def _words_of(error: Exception) -> str:
    return _words(error) if isinstance(error, OSError) else str(error)
