"""Connections that an app takes over: what the client hears first, what it said early, how they end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cnm.http.listener import UnixPlace
from cnm.http.server import UPGRADE, Server
from cnm.http.upgrade import Connection
from tests.support.multiplexed import read_all, read_until
from tests.unit.api_served import PATIENCE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_ASKS = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


class App:
    """POST /echo takes the connection over and sends back what it hears; /refused does not; /ping is plain."""

    def __init__(self) -> None:
        self.ended = threading.Semaphore(0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/ping":
            start_response("200 OK", [("Content-Length", "2")])
            return [b"OK"]
        if path == "/reads":
            environ["wsgi.input"].read()
        environ[UPGRADE] = {"/deaf": self._deaf, "/fails": self._fails}.get(path, self._echo)
        if path == "/refused":
            start_response("409 Conflict", [("Content-Length", "2")])
            return [b"no"]
        start_response("200 OK", [("Content-Type", "application/x-test"), ("Api-Version", "1.52")])
        return [b"never sent"]

    def _echo(self, connection: Connection) -> None:
        connection.socket.sendall(b"<" + connection.early)
        while piece := connection.socket.recv(65536):
            connection.socket.sendall(piece)
        self.ended.release()
        connection.socket.sendall(b">")

    def _deaf(self, connection: Connection) -> None:
        """Returns although the client has said more."""
        read_until(connection.socket, b"go")
        connection.socket.sendall(b"bye")

    def _fails(self, _connection: Connection) -> None:
        raise RuntimeError("on purpose")


class Served:
    def __init__(self, folder: Path, threads: int) -> None:
        self.app, self.path = App(), os.path.join(folder, "app.sock")
        self.server = Server(self.app, UnixPlace(self.path), threads=threads)
        self.server.bind()
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def dial(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        return client

    def ask(
        self, path: str, headers: bytes = _ASKS, body: bytes = b"", protocol: str = "1.1"
    ) -> socket.socket:
        client = self.dial()
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        client.sendall(
            f"POST {path} HTTP/{protocol}\r\nHost: d\r\n".encode() + headers + length + b"\r\n" + body
        )
        return client

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@contextmanager
def serving(folder: Path, threads: int = 2) -> Iterator[Served]:
    served = Served(folder, threads)
    try:
        yield served
    finally:
        served.stop()


def _head(client: socket.socket) -> tuple[list[bytes], bytes]:
    head, _, rest = read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
    return head.split(b"\r\n"), rest


def test_a_client_that_asks_is_upgraded_and_may_end_its_half_first(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.ask("/echo") as client:
        head, rest = _head(client)
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)

        assert rest + read_all(client) == b"<hello>"
        assert head == [
            b"HTTP/1.1 101 UPGRADED",
            b"Content-Type: application/x-test",
            b"Connection: Upgrade",
            b"Upgrade: tcp",
            b"Api-Version: 1.52",
        ]


@pytest.mark.parametrize("protocol", ["1.1", "1.0"])
def test_a_client_that_does_not_ask_gets_a_plain_answer_and_the_same_stream(
    tmp_path: Path, protocol: str
) -> None:
    with serving(tmp_path) as served, served.ask("/echo", b"", protocol=protocol) as client:
        head, rest = _head(client)
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)

        assert rest + read_all(client) == b"<hello>"
        assert head[0] == b"HTTP/1.1 200 OK"
        assert head[1:] == [b"Content-Type: application/x-test", b"Api-Version: 1.52"]


@pytest.mark.parametrize("path", ["/echo", "/reads"])
def test_what_a_client_said_early_is_not_lost_and_its_body_is_no_part_of_it(
    tmp_path: Path, path: str
) -> None:
    with serving(tmp_path) as served, served.dial() as client:
        client.sendall(
            f"POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n".encode() + _ASKS + b"\r\nbodyearly"
        )
        _, rest = _head(client)
        client.shutdown(socket.SHUT_WR)

        assert rest + read_all(client) == b"<early>"


def test_an_app_that_refuses_answers_as_ever_and_the_connection_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.ask("/refused") as client:
        assert read_until(client, b"no").startswith(b"HTTP/1.1 409 Conflict\r\n")

        client.sendall(b"GET /ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert read_until(client, b"OK").startswith(b"HTTP/1.1 200 OK\r\n")


def test_fifty_taken_connections_hold_nobody_up(tmp_path: Path) -> None:
    with serving(tmp_path, threads=2) as served:
        taken = [served.ask("/echo") for _ in range(50)]
        for client in taken:
            read_until(client, b"<")

        with served.ask("/ping", b"Connection: close\r\n") as other:
            assert read_all(other).endswith(b"OK")

        for number, client in enumerate(taken):
            client.sendall(b"%d" % number)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"%d>" % number
            client.close()


def test_a_client_hears_the_last_word_though_it_said_what_nobody_read(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.ask("/deaf") as client:
        _head(client)
        client.sendall(b"go" + b"x" * 100_000)

        assert read_all(client) == b"bye"


def test_an_app_that_fails_ends_the_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path) as served, served.ask("/fails") as client:
        _head(client)

        assert read_all(client) == b""
    assert "a connection that was taken over failed" in caplog.text


def test_stopping_ends_taken_connections(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.ask("/echo") as client:
        read_until(client, b"<")

        served.stop()

        assert read_all(client) == b""
        assert served.app.ended.acquire(timeout=PATIENCE), "the app was not told"


def test_nothing_is_left_of_a_connection(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        with served.ask("/ping", b"Connection: close\r\n") as client:
            read_all(client)
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with served.ask("/echo") as client:
                read_until(client, b"<")
                client.shutdown(socket.SHUT_WR)
                read_all(client)
        threads = [thread for thread in threading.enumerate() if thread.name == "api-taken"]
        for thread in threads:
            thread.join(PATIENCE)

        assert set(os.listdir("/proc/self/fd")) <= before
        assert served.server._http.streams == set()
