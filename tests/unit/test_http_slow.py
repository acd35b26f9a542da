"""Requests that take as long as their client likes: any number of them, beside the workers."""

from __future__ import annotations

import itertools
import random
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnm.api.routes import Route, slow
from cnm.http.listener import UnixPlace
from cnm.http.server import HAS_LEFT, LONG_STREAM, Server
from tests.unit.api_served import PATIENCE, answer, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_CHUNKED = b"POST /slow/read HTTP/1.1\r\nHost: cnm\r\nTransfer-Encoding: chunked\r\n\r\n"
_COUNTED = b"POST /slow/read HTTP/1.1\r\nHost: cnm\r\nContent-Length: 5\r\n\r\n"


class _App:
    """What is below /slow is slow."""

    def __init__(self) -> None:
        self.has_left, self.read_failed = threading.Event(), threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        verb = environ["PATH_INFO"].rpartition("/")[2]
        self.begun.release()
        body = getattr(self, f"_{verb}")(environ)
        start_response("200 OK", [])
        return body  # type: ignore[no-any-return]

    def _quick(self, _environ: WSGIEnvironment) -> list[bytes]:
        return [b"quick"]

    def _read(self, environ: WSGIEnvironment) -> list[bytes]:
        try:
            return [environ["wsgi.input"].read()]
        except OSError:
            self.read_failed.set()
            raise

    def _parts(self, environ: WSGIEnvironment) -> list[bytes]:
        """The sizes of what reading so many bytes at a time gives, then all that is left."""
        read = environ["wsgi.input"].read
        parts = [read(size) for size in (0, 1, 100_000, 50_000)]
        return [str([len(part) for part in parts]).encode(), b" ", *parts, read()]

    def _stream(self, environ: WSGIEnvironment) -> Iterator[bytes]:
        environ[LONG_STREAM] = True
        return iter((b"one ", b"", b"two"))

    def _wait(self, environ: WSGIEnvironment) -> list[bytes]:
        """Until the client has gone."""
        over = threading.Event()
        while not environ[HAS_LEFT]():
            over.wait(0.01)
        self.has_left.set()
        return []


class _Served:
    def __init__(self, path: str) -> None:
        self.path, self.app = path, _App()
        self.server = Server(
            self.app, UnixPlace(path), threads=2, is_slow=lambda _method, path: path.startswith("/slow/")
        )
        self.server.bind()
        self._thread = threading.Thread(target=self.server.serve)
        self._thread.start()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def dial(self, said: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        client.sendall(said)
        return client


@contextmanager
def _serving(folder: Path) -> Iterator[_Served]:
    served = _Served(str(folder / "s"))
    try:
        yield served
    finally:
        served.stop()


def test_clients_that_do_not_send_what_they_announce_hold_nobody_up(tmp_path: Path) -> None:
    with _serving(tmp_path) as served:
        silent = [served.dial(said) for said in (_COUNTED, _CHUNKED) * 20]
        for _ in silent:
            assert served.app.begun.acquire(timeout=PATIENCE)

        with served.dial() as client:
            assert request(client, "GET", "/quick") == (200, b"quick")

        for client in silent[::2]:
            client.sendall(b"whole")
            assert answer(client, "POST") == (200, b"whole")
        for client in silent:
            client.close()


def test_a_slow_answer_ends_its_connection(tmp_path: Path) -> None:
    with _serving(tmp_path) as served, served.dial(_CHUNKED + b"3\r\nall\r\n0\r\n\r\n") as client:
        assert answer(client, "POST") == (200, b"all")
        assert client.recv(1) == b""


def test_a_slow_request_may_be_answered_by_a_stream(tmp_path: Path) -> None:
    with _serving(tmp_path) as served, served.dial() as client:
        assert request(client, "GET", "/slow/stream") == (200, b"one two")
        assert client.recv(1) == b""


def test_a_client_that_leaves_is_noticed_before_there_is_an_answer(tmp_path: Path) -> None:
    with _serving(tmp_path) as served:
        client = served.dial(b"GET /slow/wait HTTP/1.1\r\nHost: cnm\r\n\r\n")
        assert served.app.begun.acquire(timeout=PATIENCE)
        assert not served.app.has_left.is_set()

        client.close()

        assert served.app.has_left.wait(PATIENCE)


def test_a_client_that_leaves_amid_its_body_is_an_error_of_reading(tmp_path: Path) -> None:
    with _serving(tmp_path) as served:
        client = served.dial(_CHUNKED + b"3\r\nal")
        assert served.app.begun.acquire(timeout=PATIENCE)

        client.close()

        assert served.app.read_failed.wait(PATIENCE)


def test_a_body_in_chunks_is_read_in_any_sizes(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(200_000)
    ends = (0, 7, 40_000, 140_000, 140_001, 200_000)
    chunks = [body[start:end] for start, end in itertools.pairwise(ends)]
    with _serving(tmp_path) as served:
        sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
        client = served.dial(_CHUNKED.replace(b"/read", b"/parts") + sent)

        assert answer(client, "POST") == (200, b"[0, 1, 100000, 50000] " + body)


def test_the_sender_of_a_body_that_nobody_reads_comes_to_read_the_answer(tmp_path: Path) -> None:
    head = b"POST /slow/stream HTTP/1.1\r\nHost: cnm\r\nContent-Length: 3000000\r\n\r\n"
    with _serving(tmp_path) as served, served.dial() as client:
        client.sendall(head + bytes(3_000_000))

        assert answer(client, "POST") == (200, b"one two")


def test_stopping_cuts_slow_clients_off(tmp_path: Path) -> None:
    with _serving(tmp_path) as served:
        client = served.dial(b"GET /slow/wait HTTP/1.1\r\nHost: cnm\r\n\r\n")
        assert served.app.begun.acquire(timeout=PATIENCE)

    assert served.app.has_left.wait(PATIENCE)
    client.close()


def test_routes_are_slow_that_say_so_in_every_version() -> None:
    is_slow = slow(
        [
            Route("POST", "/images/load", print, is_slow=True),
            Route("POST", "/images/{image}/push", print, is_slow=True),
            Route("GET", "/images/{image}/json", print),
        ]
    )

    assert is_slow("POST", "/images/load")
    assert is_slow("POST", "/v1.41/images/127.0.0.1:5000/team/app/push")
    assert not is_slow("GET", "/images/load")
    assert not is_slow("GET", "/v1.41/images/x/json")
    assert not is_slow("POST", "/images/load/more")
