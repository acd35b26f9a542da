"""A port that a relay served can be reserved again although its last connections still rest in TIME-WAIT."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cnm.endpoint import PortRequest
from cnm.errors import Conflict
from cnm.kernel.reservations import Reservations

PORT = 8080
REQUEST = PortRequest(container_port=80, host_port=PORT)


@pytest.fixture
def reservations() -> Iterator[Reservations]:
    held = Reservations()
    yield held
    held.release(held.lost())


def serve_one_connection(listener: socket.socket) -> None:
    """As the relay does; the server's side closes first, so that it is the one that rests."""
    listener.listen()
    with socket.create_connection(("127.0.0.1", PORT)) as client:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        accepted.close()
        assert client.recv(1) == b""


def resting() -> bool:
    with open("/proc/self/net/tcp6") as table:
        return any(f":{PORT:04X} " in line and " 06 " in line for line in table)


def test_port_with_resting_connections_is_reserved_again(reservations: Reservations) -> None:
    mapping = reservations.reserve([REQUEST])
    holder = reservations.socket_of(mapping[0])
    assert holder is not None
    with holder.dup() as listener:
        serve_one_connection(listener)
    reservations.release(mapping)
    assert resting()

    again = reservations.reserve([REQUEST])

    assert again == mapping
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", PORT))
    reservations.release(again)


def test_port_with_a_listener_beside_resting_connections_is_taken(reservations: Reservations) -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", PORT))
        serve_one_connection(listener)
        assert resting()

        with pytest.raises(Conflict, match="port is already allocated"):
            reservations.reserve([REQUEST])
