"""TCP through the relay: bytes, ends, resets and pressure pass as if there were one connection."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from cnm.relay.tcp import TcpRelay
from cnm.sidecar.loop import Loop
from tests.unit.relay_loop import Peer, turn_until, turn_until_quiet

_MUCH = bytes(range(256)) * 4096 * 16
"""16 MiB, more than the buffers of two connections hold."""


class Setting:
    """A relay on [::1] before an IPv4 server, and how to connect through it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.front = socket.socket(socket.AF_INET6)
        self.front.bind(("::1", _free_port()))
        self.relay = TcpRelay(self.loop, self.front.dup(), self.server.getsockname())
        self.peers: list[Peer] = []
        self.serving = True

    def connect(self) -> tuple[Peer, Peer]:
        """(client, server) of a new connection."""
        client = socket.create_connection(self.front.getsockname()[:2])
        accepted: list[socket.socket] = []

        def arrives() -> bool:
            try:
                accepted.append(self.server.accept()[0])
            except BlockingIOError:
                return False
            return True

        turn_until(self.loop, arrives)
        self.peers += [Peer(client), Peer(accepted[0])]
        return self.peers[-2], self.peers[-1]

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(self.loop, condition)

    def connections(self) -> int:
        return len(self.relay._connections)

    def stop(self) -> None:
        if self.serving:
            self.serving = False
            self.relay.close()

    def close(self) -> None:
        self.stop()
        for peer in self.peers:
            peer.socket.close()
        self.front.close()
        self.server.close()
        self.loop.close()


@pytest.fixture
def setting() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])


def _reset(peer: Peer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def _send_all(
    setting: Setting, sender: Peer, data: bytes, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Send everything, while the loop turns and `meanwhile` is done."""
    rest = memoryview(data)

    def sent() -> bool:
        nonlocal rest
        try:
            rest = rest[sender.socket.send(rest) :]
        except BlockingIOError:
            meanwhile()
        return not rest

    setting.until(sent)


def test_bytes_pass_both_ways(setting: Setting) -> None:
    client, server = setting.connect()

    client.socket.send(b"question")
    setting.until(lambda: server.read() == b"question")
    server.socket.send(b"answer")
    setting.until(lambda: client.read() == b"answer")


def test_the_end_of_one_direction_leaves_the_other_open(setting: Setting) -> None:
    client, server = setting.connect()

    client.socket.send(b"all of it")
    client.socket.shutdown(socket.SHUT_WR)
    setting.until(server.has_ended)
    server.socket.send(b"still here")
    setting.until(lambda: client.read() == b"still here")

    assert server.received == b"all of it"
    assert not client.ended
    server.socket.close()
    setting.until(client.has_ended)
    assert not client.reset


def test_a_server_may_end_first(setting: Setting) -> None:
    client, server = setting.connect()

    server.socket.send(b"bye")
    server.socket.shutdown(socket.SHUT_WR)
    setting.until(client.has_ended)
    client.socket.send(b"one more thing")
    setting.until(lambda: server.read() == b"one more thing")

    assert client.received == b"bye"


def test_a_connection_is_forgotten_when_both_sides_have_ended(setting: Setting) -> None:
    before = os.listdir("/proc/self/fd")
    client, server = setting.connect()
    setting.until(lambda: setting.connections() == 1)

    client.socket.close()
    setting.until(server.has_ended)
    server.socket.close()
    setting.until(lambda: setting.connections() == 0)

    assert os.listdir("/proc/self/fd") == before


def test_much_data_arrives_whole(setting: Setting) -> None:
    client, server = setting.connect()

    _send_all(setting, client, _MUCH, meanwhile=server.read)
    client.socket.shutdown(socket.SHUT_WR)
    setting.until(server.has_ended)

    assert server.received == _MUCH


def test_a_slow_receiver_slows_the_sender_down(setting: Setting) -> None:
    client, _server = setting.connect()
    for peer in setting.peers:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sent = 0

    def stuck() -> bool:
        nonlocal sent
        turn_until_quiet(setting.loop)
        try:
            sent += client.socket.send(_MUCH)
        except BlockingIOError:
            return True
        return False

    setting.until(stuck)

    assert 0 < sent < len(_MUCH)
    (connection,) = setting.relay._connections
    assert connection._server.pending is not None
    assert len(connection._server.pending) <= 128 * 1024


def test_what_was_sent_before_both_ends_reaches_a_slow_receiver_without_a_busy_wait(setting: Setting) -> None:
    client, server = setting.connect()
    server.socket.shutdown(socket.SHUT_WR)
    setting.until(client.has_ended)
    (connection,) = setting.relay._connections
    sent = bytearray()

    def receiver_is_full() -> bool:
        turn_until_quiet(setting.loop)
        sent.extend(_MUCH[len(sent) :][: client.socket.send(_MUCH[len(sent) :][:65536])])
        return connection._server.pending is not None

    setting.until(receiver_is_full)
    client.socket.close()
    turn_until_quiet(setting.loop)
    setting.until(server.has_ended)

    assert server.received == sent
    assert not server.reset


def test_a_reset_of_the_client_reaches_the_server(setting: Setting) -> None:
    client, server = setting.connect()
    client.socket.send(b"x")
    setting.until(lambda: server.read() == b"x")

    _reset(client)

    setting.until(server.was_reset)
    assert setting.connections() == 0


def test_a_reset_of_the_server_reaches_the_client(setting: Setting) -> None:
    client, server = setting.connect()

    _reset(server)

    setting.until(client.was_reset)
    assert setting.connections() == 0


def test_a_reset_during_back_pressure_is_passed_on(setting: Setting) -> None:
    client, server = setting.connect()
    setting.until(lambda: _is_full(client))
    turn_until_quiet(setting.loop)

    _reset(client)

    setting.until(server.was_reset)


def _is_full(sender: Peer) -> bool:
    try:
        sender.socket.send(_MUCH)
    except BlockingIOError:
        return True
    return False


def test_idle_and_half_closed_connections_cost_nothing(setting: Setting) -> None:
    client, server = setting.connect()
    client.socket.shutdown(socket.SHUT_WR)
    setting.until(server.has_ended)

    turn_until_quiet(setting.loop)

    assert turn_until_quiet(setting.loop) == 0


def test_a_client_is_reset_when_the_target_refuses(setting: Setting) -> None:
    setting.server.close()
    client = Peer(socket.create_connection(setting.front.getsockname()[:2]))

    setting.until(client.was_reset)

    assert setting.connections() == 0
    client.socket.close()


def test_a_client_is_reset_when_there_is_no_way_to_the_target(setting: Setting) -> None:
    setting.relay.target = ("ff02::1", 80)  # no TCP to a multicast address
    client = Peer(socket.create_connection(setting.front.getsockname()[:2]))

    setting.until(client.was_reset)
    client.socket.close()


def test_closing_resets_the_connections_and_refuses_new_ones(setting: Setting) -> None:
    client, server = setting.connect()

    setting.stop()

    assert client.was_reset()
    assert server.was_reset()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(setting.front.getsockname()[:2])


def test_closing_keeps_the_port_reserved_for_the_other_owner(setting: Setting) -> None:
    setting.stop()

    with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError, match="in use"):
        other.bind(setting.front.getsockname())


def test_a_socket_can_be_served_again_after_it_was_closed(setting: Setting) -> None:
    setting.stop()

    setting.relay = TcpRelay(setting.loop, setting.front.dup(), setting.server.getsockname())
    setting.serving = True
    client, server = setting.connect()

    client.socket.send(b"again")
    setting.until(lambda: server.read() == b"again")


def test_connections_in_time_wait_do_not_keep_the_port_from_being_bound_for_reuse(setting: Setting) -> None:
    client, server = setting.connect()
    server.socket.close()
    setting.until(client.has_ended)
    client.socket.close()
    setting.until(lambda: setting.connections() == 0)
    setting.stop()
    address = setting.front.getsockname()
    setting.front.close()

    with socket.socket(socket.AF_INET6) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(address)
