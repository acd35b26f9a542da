"""A client of the launcher, which speaks the Docker Engine API, tar archives and raw streams among it."""

from __future__ import annotations

import json
import os

from cnm.cli.client import Client, DaemonError, _Connection, _message, quote
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

DAEMON_SOCKET = "cnm.sock"
LAUNCHER_SOCKET = "docker.sock"
"""Of the two daemons, side by side in the run directory."""


STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
"""Their descriptors, which are there or not whatever Python makes of them."""


def launcher(client: Client) -> LauncherClient:
    """The launcher beside the cnmd that `client` was made for.

    A socket of any other name than cnmd's is taken for the one to ask, so that any server of the Engine API does.
    """
    path = client.host.removeprefix("unix://")
    folder, name = os.path.split(path)
    return LauncherClient(
        f"unix://{os.path.join(folder, LAUNCHER_SOCKET) if name == DAEMON_SOCKET else path}"
    )


def launcher_or_cnmd(client: Client) -> Client:
    """The launcher where its socket is there, else cnmd: for what both can answer."""
    found = launcher(client)
    return found if os.path.exists(found.host.removeprefix("unix://")) else client


def query_text(pairs: Iterable[tuple[str, str]]) -> str:
    """`?a=b&a=c`, "" for none; unlike a mapping it can hold a key more than once."""
    text = "&".join(f"{quote(key)}={quote(value)}" for key, value in pairs)
    return f"?{text}" if text else ""


def file_pieces(descriptor: int) -> Iterator[bytes]:
    """What an open file holds, and what a pipe brings, as it comes."""
    while piece := os.read(descriptor, 65536):
        yield piece


class LauncherClient(Client):
    """Requests to the Engine API, with bodies that are bytes beside those that are JSON."""

    service = "cnm-launcher"

    def download(self, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Download:
        """The answer to a GET as bytes, as they arrive. Raises DaemonError and Unavailable as `request` does."""
        return Download(self, self._ask("GET", path, body, query))

    def head(self, path: str) -> dict[str, str] | None:
        """The headers of the answer to a HEAD request, names in lower case; None where it is an error."""
        connection = self._ask("HEAD", path, None, None)
        connection.close()
        return connection.headers if connection.status < 400 else None

    def upload(self, method: str, path: str, pieces: Iterable[bytes]) -> Download:
        """Send a tar archive in pieces; the answer may begin before its end.

        Raises DaemonError and Unavailable, and whatever `pieces` raises.
        """
        connection = self._connect()
        sender = _Sender(connection, pieces)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.service}\r\nConnection: close\r\n"
        head += "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(head.encode())
        sender.start()
        try:
            connection.read_head()
        except (OSError, ValueError) as error:
            connection.close()
            raise sender.error or self._broken(error) from None
        if sender.error:
            connection.close()
            raise sender.error
        return Download(self, connection)


class Download:
    """An answer whose body is bytes: `headers` (names in lower case), and the pieces by iteration, once."""

    def __init__(self, client: LauncherClient, connection: _Connection) -> None:
        """Raises DaemonError for a status of 400 or more."""
        self._client = client
        self._connection = connection
        self.headers = connection.headers
        if connection.status >= 400:
            content = b"".join(self)
            connection.close()
            raise DaemonError(_message(content, connection.status), connection.status)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._connection.body()
        except (OSError, ValueError) as error:
            raise self._client._broken(error) from None

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class _Sender:
    """Sends a body in chunks beside the thread that reads the answer, lest both sides wait for each other.

    `error` is what kept the body from its end.
    """

    def __init__(self, connection: _Connection, pieces: Iterable[bytes]) -> None:
        self._connection = connection
        self._pieces = pieces
        self.error: Exception | None = None

    def start(self) -> None:
        from threading import Thread

        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                if piece and not self._connection.send(b"%x\r\n%s\r\n" % (len(piece), piece)):
                    return
            self._connection.send(b"0\r\n\r\n")
        except (CnmError, OSError) as error:
            self.error = error
            self._connection.end_sending()


def messages(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON messages of an answer that reports as it goes on. Raises DaemonError for one that tells a failure."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(_checked, filter(bytes.strip, lines))
    if rest.strip():
        yield _checked(rest)


def _checked(line: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(line)
    if message.get("error"):
        raise DaemonError(message["error"], 500)
    return message
