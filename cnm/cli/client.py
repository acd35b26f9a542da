"""A client of cnmd: HTTP/1.1 over a Unix socket, with the few imports that an 80 ms command can bear.

http.client would cost 25 ms of every start and socket 10 ms, so this speaks to `_socket`, socket's C half.
"""

from __future__ import annotations

import _socket
import json

from cnm.errors import CnmError, InvalidParameter, NotBuilt, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

DEFAULT_HOST = "unix:///run/cnm/cnm.sock"


class DaemonError(CnmError):
    """cnmd refused; `status` is the HTTP status of its answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Requests to the cnmd behind `host`: `unix:///PATH` or a bare path; nothing is opened before the first."""

    service = "cnmd"
    """The daemon that is asked, by its name."""

    def __init__(self, host: str = DEFAULT_HOST) -> None:
        """Raises InvalidParameter for a malformed host and NotBuilt for a scheme other than unix."""
        scheme, separator, path = host.partition("://")
        if not separator:
            path = host
        elif scheme != "unix":
            raise NotBuilt(f"cannot reach {host}: only Unix sockets are served, use unix:///PATH")
        if not path or "\0" in path:
            raise InvalidParameter(f'invalid host "{host}": use unix:///PATH')
        self.host = host if separator else f"unix://{path}"
        self._path = path

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        return self.request("POST", path, body, query)

    def delete(self, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        return self.request("DELETE", path, body, query)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON, None where it has no body.

        Raises DaemonError for a status of 400 or more and Unavailable where no daemon answers.
        """
        return self._answer(self._ask(method, path, body, query, headers))

    def text(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """The answer to a GET as it was written. Raises as `request` does."""
        return self._whole(self._ask("GET", path, None, query)).decode("utf-8", "replace")

    def stream(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Any]:
        """The values of an answer of JSON lines, which may be endless, each as soon as it arrives."""
        connection = self._ask(method, path, body, query, headers)
        try:
            if connection.status >= 400:
                raise DaemonError(_message(b"".join(connection.body()), connection.status), connection.status)
            rest = b""
            for piece in connection.body():
                *lines, rest = (rest + piece).split(b"\n")
                yield from (self._decode(line) for line in lines if line.strip())
            if rest.strip():
                yield self._decode(rest)
        except (OSError, ValueError) as error:
            raise self._broken(error) from None
        finally:
            connection.close()

    def begin(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Callable[[], Any]:
        """A request whose answer may take long: returns once the daemon has taken it on.

        What is returned waits for the answer, and answers and raises as `request` does.
        """
        connection = self._ask(method, path, None, query)
        return lambda: self._answer(connection)

    def send(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Callable[[], Any]:
        """A request beside others: returns once it is sent. What is returned is as that of `begin`."""
        connection = self._sent(method, path, None, query)

        def answer() -> Any:
            self._read_head(connection)
            return self._answer(connection)

        return answer

    def upgrade(
        self, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> tuple[_socket.socket, bytes]:
        """POST that turns its connection into one that carries bytes both ways: Docker's hijacking.

        The socket, which is the caller's to close, and what of the stream had come with the answer.
        Raises DaemonError and Unavailable as `request` does.
        """
        connection = self._sent("POST", path, body, query, upgrade=True)
        self._read_head(connection)
        if connection.status >= 400:
            self._answer(connection)
        return connection.take()

    def _answer(self, connection: _Connection) -> Any:
        content = self._whole(connection)
        return self._decode(content) if content.strip() else None

    def _whole(self, connection: _Connection) -> bytes:
        """The content of an answer, whose connection is closed. Raises as `request` does."""
        try:
            content = b"".join(connection.body())
        except (OSError, ValueError) as error:
            raise self._broken(error) from None
        finally:
            connection.close()
        if connection.status >= 400:
            raise DaemonError(_message(content, connection.status), connection.status)
        return content

    def _ask(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None = None,
    ) -> _Connection:
        connection = self._sent(method, path, body, query, headers=headers)
        self._read_head(connection)
        return connection

    def _sent(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
        upgrade: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> _Connection:
        if query:
            path += "?" + "&".join(f"{quote(key)}={quote(value)}" for key, value in query.items())
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.service}\r\n"
        head += "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else "Connection: close\r\n"
        head += f"Content-Length: {len(content)}\r\n"
        if content:
            head += "Content-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        connection = self._connect()
        try:
            connection.send(f"{head}\r\n".encode() + content)
        except OSError as error:
            connection.close()
            raise self._broken(error) from None
        return connection

    def _read_head(self, connection: _Connection) -> None:
        try:
            connection.read_head()
        except (OSError, ValueError) as error:
            connection.close()
            raise self._broken(error) from None

    def _connect(self) -> _Connection:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
        except PermissionError:
            raise Unavailable(
                f"permission denied at {self.host}: run as root, or join the group that owns the socket"
            ) from None
        except OSError:
            raise Unavailable(
                f"cannot connect to {self.service} at {self.host}: is it running? "
                f"start it with 'systemctl start {self.service}', or name its socket with -H"
            ) from None
        return _Connection(sock)

    def _decode(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> Unavailable:
        reason = getattr(error, "strerror", None) or str(error)
        return Unavailable(
            f"no sensible answer from {self.host}: {reason.lower()}: see the log of {self.service}"
        )


class _Connection:
    """One request's connection: the answer's `status` and `headers` after `read_head`, then its `body`.

    Raises OSError when the connection breaks and ValueError when the answer is not HTTP.
    """

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._received = b""
        self.status = 0
        self.headers: dict[str, str] = {}

    def close(self) -> None:
        self._sock.close()

    def send(self, content: bytes) -> bool:
        """Whether the server took it; one that refuses a body answers without reading it all."""
        try:
            self._sock.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def end_sending(self) -> None:
        """Tell the server that nothing more comes, whatever was announced."""
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:
            return  # it is gone already

    def take(self) -> tuple[_socket.socket, bytes]:
        """The socket itself, and what was received beyond the answer's head."""
        return self._sock, self._received

    def read_head(self) -> None:
        words = self._line().split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ValueError("not an http answer")
        self.status = int(words[1])
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def body(self) -> Iterator[bytes]:
        """The body in pieces as they arrive, whatever its framing."""
        if self.status == 204:
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in self.headers:
            yield self._exactly(int(self.headers["content-length"]))
        else:
            piece = self._received
            while piece:
                yield piece
                piece = self._sock.recv(65536)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(b";")[0], 16):
            yield self._exactly(size)
            self._line()
        while self._line():
            pass

    def _line(self) -> bytes:
        while b"\r\n" not in self._received:
            self._receive()
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        pieces = [self._received]
        missing = size - len(self._received)
        self._received = b""
        while missing > 0:
            self._receive()
            pieces.append(self._received)
            missing -= len(self._received)
            self._received = b""
        content = b"".join(pieces)
        self._received = content[size:]
        return content[:size]

    def _receive(self) -> None:
        piece = self._sock.recv(65536)
        if not piece:
            raise ValueError("the answer ends early")
        self._received += piece


def _message(content: bytes, status: int) -> str:
    try:
        message = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError):
        message = content.decode("utf-8", "replace").strip()
    return str(message) or f"status {status}"


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str) -> str:
    """`text` as one segment of a path or one value of a query (RFC 3986, unreserved characters stay)."""
    return "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape")
    )


def filters(values: Mapping[str, list[str]]) -> dict[str, str]:
    """The query for filters, in the form of the Engine API: `{"name": {"web": true}}`."""
    if not values:
        return {}
    return {"filters": json.dumps({key: dict.fromkeys(texts, True) for key, texts in values.items()})}
