"""What a server reads from a connection: also what it has read already."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cnm.http.reader import Reader


@pytest.fixture
def pair() -> Iterator[tuple[Reader, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(10)
    with near, far:
        yield Reader(near), far


def test_what_was_read_already_is_known_without_waiting(pair: tuple[Reader, socket.socket]) -> None:
    reader, far = pair
    assert not reader.has_data()

    far.sendall(b"GET / HTTP/1.1\r\n\r\nmore")
    assert not reader.has_data()  # that is for whoever polls the socket
    assert reader.readline() == b"GET / HTTP/1.1\r\n"

    assert reader.has_data()
    assert reader.buffered() == b"\r\nmore"
    assert reader.read(6) == b"\r\nmore"
    assert not reader.has_data()


def test_large_bodies_come_whole(pair: tuple[Reader, socket.socket]) -> None:
    reader, far = pair
    body = os.urandom(100_000)
    far.sendall(b"head\n" + body)
    far.shutdown(socket.SHUT_WR)

    assert reader.readline() == b"head\n"
    assert reader.read(len(body)) == body
    assert reader.read(1) == b""
    assert not reader.has_data()


def test_a_client_that_is_silent_is_a_timeout(pair: tuple[Reader, socket.socket]) -> None:
    reader, _far = pair
    reader._connection.settimeout(0.05)

    with pytest.raises(TimeoutError):
        reader.readline()
