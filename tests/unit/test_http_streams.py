"""Answers without end: what goes wrong in them is logged, a client that goes is no error, and no connection stays."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnm.http import server as http_server
from cnm.http.listener import UnixPlace
from cnm.http.server import LONG_STREAM, Server
from tests.unit.api_served import PATIENCE

_LARGE = 4 << 20
"""Bytes: more than a socket takes that nobody reads from."""


class Streams:
    """A server whose every answer begins, and then fails, or goes on with nothing, or with _LARGE where it is asked."""

    def __init__(self, folder: Path, failure: Exception | None, at_end: Exception | None) -> None:
        self._failure, self._at_end = failure, at_end
        self._path = os.path.join(folder, "streams.sock")
        self.writes = threading.Event()
        self.server = Server(self._app, UnixPlace(self._path), threads=1)
        self.server.bind()

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        environ[LONG_STREAM] = True
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self._large() if environ["PATH_INFO"] == "/large" else self._chunks()

    def _large(self) -> Iterator[bytes]:
        yield b"begun\n"
        self.writes.set()
        yield bytes(_LARGE)

    def _chunks(self) -> Iterator[bytes]:
        yield b"begun\n"
        if self._failure:
            raise self._failure
        try:
            while True:
                time.sleep(0.01)
                yield b""
        finally:
            if self._at_end:
                raise self._at_end

    def dial(self, words: bytes) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE)
        client.connect(self._path)
        client.sendall(words)
        return client

    def follow(self, path: str = "/") -> http.client.HTTPResponse:
        """Its beginning has come."""
        client = self.dial(f"GET {path} HTTP/1.1\r\nHost: cnm\r\n\r\n".encode())
        response = http.client.HTTPResponse(client)
        client.close()  # the response keeps the descriptor
        response.begin()
        assert response.read(6) == b"begun\n"
        return response

    def await_end(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.server._http.streams:
            assert time.monotonic() < deadline, "a connection is still there"
            time.sleep(0.01)


@contextmanager
def _served(
    folder: Path, failure: Exception | None = None, at_end: Exception | None = None
) -> Iterator[Streams]:
    streams = Streams(folder, failure, at_end)
    thread = threading.Thread(target=streams.server.serve)
    thread.start()
    try:
        yield streams
    finally:
        streams.server.stop()
        thread.join(PATIENCE)


def test_one_that_fails_is_logged_and_its_client_sees_that_it_did_not_end_as_it_should(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _served(tmp_path, OSError(errno.ENOSPC, "No space left on device")) as streams:
        stream = streams.follow()
        with pytest.raises(http.client.IncompleteRead):
            stream.read()
        streams.await_end()

    assert caplog.messages == ["a stream failed"]
    assert "No space left on device" in caplog.text


def test_one_whose_client_goes_ends_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with _served(tmp_path) as streams:
        streams.follow().close()
        streams.await_end()

    assert caplog.messages == []


def test_one_that_fails_at_its_end_lets_go_of_its_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _served(tmp_path, at_end=OSError(errno.EIO, "Input/output error")) as streams:
        streams.follow().close()
        streams.await_end()

    assert caplog.messages == ["a stream did not end well"]


def test_one_goes_on_however_long_its_client_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_IDLE_SECONDS", 0.2)
    with _served(tmp_path) as streams:
        stream = streams.follow("/large")
        assert streams.writes.wait(PATIENCE)
        with streams.dial(b"GET /half") as refused:  # by the limit, which the stream has passed, too, by then
            assert refused.recv(100).startswith(b"HTTP/1.1 408 ")

        assert len(stream.read()) == _LARGE


def test_stopping_cuts_off_who_takes_nothing(tmp_path: Path) -> None:
    with _served(tmp_path) as streams:
        stream = streams.follow("/large")
        assert streams.writes.wait(PATIENCE)
        streams.server.stop()
        streams.await_end()

    with pytest.raises(http.client.IncompleteRead):
        stream.read()
