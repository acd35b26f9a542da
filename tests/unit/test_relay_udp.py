"""UDP through the relay: each client has its own way to the target, for as long as it is used."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cnm.relay.udp import UdpRelay, _attach_drop_filter
from cnm.sidecar.loop import Loop
from tests.unit.relay_loop import turn_until, turn_until_quiet

IDLE = 90.0


class Setting:
    """A dual-stack relay before an IPv4 server, with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop = Loop(clock=lambda: self.now)
        self.server = _bound("127.0.0.1")
        self.front = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.front.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _attach_drop_filter(self.front)
        self.front.bind(("::", 0))
        self.port = self.front.getsockname()[1]
        self.relay = UdpRelay(self.loop, self.front.dup(), self.server.getsockname(), idle=IDLE, clients=3)
        self.clients: list[socket.socket] = []
        self.serving = True

    def client(self, address: str = "::1") -> socket.socket:
        self.clients.append(_bound(address))
        return self.clients[-1]

    def arrives(self, at: socket.socket) -> tuple[bytes, Any]:
        """The next datagram and where it came from."""
        got: list[tuple[bytes, Any]] = []

        def received() -> bool:
            try:
                got.append(at.recvfrom(65536))
            except BlockingIOError:
                return False
            return True

        turn_until(self.loop, received)
        return got[0]

    def ask(self, client: socket.socket, to: str = "::1") -> Any:
        """Send through the relay; returns where the server saw it come from."""
        client.sendto(b"question", (to, self.port))
        data, source = self.arrives(self.server)
        assert data == b"question"
        return source

    def stop(self) -> None:
        if self.serving:
            self.serving = False
            self.relay.close()

    def close(self) -> None:
        self.stop()
        for end in (self.server, self.front, *self.clients):
            end.close()
        self.loop.close()


@pytest.fixture
def setting() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


def _bound(address: str) -> socket.socket:
    end = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((address, 0))
    end.setblocking(False)
    return end


def test_a_datagram_passes_and_its_reply_comes_back(setting: Setting) -> None:
    client = setting.client()

    source = setting.ask(client)
    setting.server.sendto(b"answer", source)

    data, answering = setting.arrives(client)
    assert data == b"answer"
    assert answering[:2] == ("::1", setting.port)


def test_an_empty_and_a_largest_datagram_pass_unchanged(setting: Setting) -> None:
    client = setting.client()

    for size in (0, 65507):
        client.sendto(bytes(size), ("::1", setting.port))
        assert len(setting.arrives(setting.server)[0]) == size


def test_each_client_gets_its_own_replies(setting: Setting) -> None:
    clients = [setting.client(), setting.client()]

    sources = [setting.ask(client) for client in clients]
    for number, source in enumerate(sources):
        setting.server.sendto(b"%d" % number, source)

    assert sources[0] != sources[1]
    assert [setting.arrives(client)[0] for client in clients] == [b"0", b"1"]


def test_one_client_keeps_its_way(setting: Setting) -> None:
    client = setting.client()

    assert setting.ask(client) == setting.ask(client)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "127.1.2.3"])
def test_a_reply_comes_from_the_address_that_was_asked(setting: Setting, address: str) -> None:
    client = setting.client("127.0.0.1")

    setting.server.sendto(b"answer", setting.ask(client, address))

    assert setting.arrives(client)[1] == (address, setting.port)


def test_a_reply_of_an_ipv4_socket_comes_from_the_address_that_was_asked() -> None:
    loop = Loop()
    front, server, client = _bound("0.0.0.0"), _bound("127.0.0.1"), _bound("127.0.0.1")
    relay = UdpRelay(loop, front.dup(), server.getsockname())
    where = ("127.0.0.2", front.getsockname()[1])
    client.sendto(b"question", where)
    turn_until(loop, lambda: _peek(server))

    server.sendto(b"answer", server.recvfrom(99)[1])
    turn_until(loop, lambda: _peek(client))

    assert client.recvfrom(99) == (b"answer", where)
    relay.close()
    for end in (front, server, client):
        end.close()
    loop.close()


def _peek(end: socket.socket) -> bool:
    try:
        end.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def test_a_silent_client_is_forgotten(setting: Setting) -> None:
    client = setting.client()
    before = setting.ask(client)

    setting.now += IDLE + 1
    turn_until(setting.loop, lambda: not setting.relay._flows)

    assert setting.ask(client) != before


def test_a_client_that_only_listens_is_not_forgotten(setting: Setting) -> None:
    client = setting.client()
    source = setting.ask(client)

    for _ in range(3):
        setting.now += IDLE - 1
        setting.server.sendto(b"news", source)
        setting.arrives(client)

    assert setting.ask(client) == source


def test_one_client_too_many_displaces_the_longest_silent(setting: Setting) -> None:
    first, second, third, fourth = (setting.client() for _ in range(4))
    ways = {client: setting.ask(client) for client in (first, second, third)}
    setting.ask(first)

    setting.ask(fourth)

    assert setting.ask(first) == ways[first]
    assert setting.ask(third) == ways[third]
    assert setting.ask(second) != ways[second]


def test_a_closed_target_port_harms_nobody(setting: Setting) -> None:
    client = setting.client()
    address = setting.server.getsockname()
    setting.server.close()
    client.sendto(b"lost", ("::1", setting.port))
    turn_until_quiet(setting.loop)

    setting.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    setting.server.bind(address)
    setting.server.setblocking(False)

    setting.ask(client)


def test_the_refusal_of_one_datagram_does_not_swallow_the_next(setting: Setting) -> None:
    client = setting.client()
    address = setting.server.getsockname()
    setting.server.close()
    client.sendto(b"lost", ("::1", setting.port))
    setting.relay._forward()  # and nobody hears of the refusal yet

    setting.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    setting.server.bind(address)
    client.sendto(b"question", ("::1", setting.port))
    setting.relay._forward()

    setting.server.settimeout(5)
    assert setting.server.recv(99) == b"question"


def test_the_loop_rests_when_nothing_is_sent(setting: Setting) -> None:
    setting.ask(setting.client())

    turn_until_quiet(setting.loop)

    assert turn_until_quiet(setting.loop) == 0


def test_after_closing_datagrams_are_dropped_and_the_port_stays_reserved(setting: Setting) -> None:
    client = setting.client()
    setting.ask(client)

    setting.stop()
    client.sendto(b"late", ("::1", setting.port))

    setting.front.setblocking(False)
    with pytest.raises(BlockingIOError):
        setting.front.recv(99)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::", setting.port))


def test_a_socket_without_a_filter_is_served_too() -> None:
    loop = Loop()
    with _bound("::1") as front:
        UdpRelay(loop, front.dup(), ("127.0.0.1", 9)).close()
    loop.close()
