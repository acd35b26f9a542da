"""DNS over TCP: every client is served whatever the others do, and none can hold on to much."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from cnm.resolver.tcp import TcpServer
from cnm.sidecar.loop import Loop
from tests.support.clocks import FakeClock
from tests.unit.relay_loop import Peer, turn_until, turn_until_quiet

Reply = Callable[[bytes], None]


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2) + message for message in messages)


def at_once(query: bytes, reply: Reply) -> bool:
    reply(b"re " + query)
    return True


class Client(Peer):
    def send(self, data: bytes) -> None:
        assert self.socket.send(data) == len(data)

    def answers(self) -> list[bytes]:
        """All that came whole."""
        received, found = self.read(), []
        while len(received) >= 2 and len(received) >= 2 + int.from_bytes(received[:2]):
            end = 2 + int.from_bytes(received[:2])
            found.append(received[2:end])
            received = received[end:]
        return found

    def is_closed(self) -> bool:
        return self.has_ended() or self.reset


class Setting:
    """A server on a Unix socket. It answers as `ask` says; `later` keeps what it was asked for the test to answer."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = Loop(clock=self.clock.now)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("")  # a free name in the abstract namespace
        self.listener.listen(64)
        self.ask: Callable[[bytes, Reply], bool] = at_once
        self.asked: list[tuple[bytes, Reply]] = []
        self.server = TcpServer(
            self.loop, self.listener, lambda query, _channel, reply: self.ask(query, reply)
        )
        self.clients: list[Client] = []

    def later(self, query: bytes, reply: Reply) -> bool:
        self.asked.append((query, reply))
        return True

    def connect(self) -> Client:
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(self.listener.getsockname())
        self.clients.append(Client(channel))
        return self.clients[-1]

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(self.loop, condition)

    def until_answered(self, client: Client, count: int = 1) -> None:
        self.until(lambda: len(client.answers()) == count)

    def settle(self) -> None:
        turn_until_quiet(self.loop)

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.time += 1
            self.loop.run_once(0)

    def connections(self) -> int:
        return len(self.server._connections)

    def close(self) -> None:
        self.server.close()
        for client in self.clients:
            client.socket.close()
        self.listener.close()
        self.loop.close()


@pytest.fixture
def setting() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


def test_a_query_in_single_bytes_is_answered_when_it_is_whole_and_keeps_nobody_waiting(
    setting: Setting,
) -> None:
    slow, quick = setting.connect(), setting.connect()
    for number, byte in enumerate(framed(b"slowly"), 1):
        assert slow.answers() == []
        slow.send(bytes([byte]))
        quick.send(framed(b"quick"))
        setting.until_answered(quick, number)

    setting.until_answered(slow)

    assert slow.answers() == [b"re slowly"]


def test_many_queries_in_one_piece_are_all_answered(setting: Setting) -> None:
    client = setting.connect()
    queries = [b"%d" % number for number in range(300)]

    client.send(framed(*queries))
    setting.until_answered(client, 300)

    assert client.answers() == [b"re " + query for query in queries]


def test_a_piece_may_end_within_a_length(setting: Setting) -> None:
    client = setting.connect()
    data = framed(b"one", b"two")

    client.send(data[:6])
    setting.until_answered(client)
    client.send(data[6:])
    setting.until_answered(client, 2)

    assert client.answers() == [b"re one", b"re two"]


def test_answers_come_in_the_order_in_which_they_are_there(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(b"first", b"second"))
    setting.until(lambda: len(setting.asked) == 2)

    for query, reply in reversed(setting.asked):
        reply(b"re " + query)

    assert client.answers() == [b"re second", b"re first"]


def test_who_waits_for_an_answer_can_ask_on(setting: Setting) -> None:
    client = setting.connect()
    setting.ask = setting.later
    client.send(framed(b"first"))
    setting.until(lambda: setting.asked)
    setting.ask = at_once

    client.send(framed(b"second"))
    setting.until_answered(client)

    assert client.answers() == [b"re second"]


def test_an_answer_is_told_once_however_often_it_comes(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(b"query"))
    setting.until(lambda: setting.asked)

    for _ in range(2):
        setting.asked[0][1](b"answer")
    setting.settle()

    assert client.answers() == [b"answer"]


def test_the_longest_query_is_taken(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()

    client.send(framed(b"x" * 65535))
    setting.until(lambda: setting.asked)

    assert setting.asked[0][0] == b"x" * 65535


@pytest.mark.parametrize("nonsense", [b"", b"garbage"])
def test_who_asks_what_has_no_answer_is_hung_up_on(setting: Setting, nonsense: bytes) -> None:
    setting.ask = lambda query, reply: query not in (b"", b"garbage") and at_once(query, reply)
    client = setting.connect()

    client.send(framed(b"good", nonsense, b"never"))
    setting.until(client.is_closed)

    assert client.answers() == [b"re good"]


# How long and how many


def test_a_connection_without_queries_is_closed_after_ten_seconds(setting: Setting) -> None:
    client = setting.connect()
    setting.settle()

    setting.pass_seconds(10)
    assert not client.is_closed()
    setting.pass_seconds(3)

    assert client.is_closed()


def test_single_bytes_keep_no_connection_open(setting: Setting) -> None:
    client = setting.connect()
    setting.settle()
    for _ in range(10):
        client.send(b"\1")
        setting.pass_seconds(1)
    assert not client.is_closed()

    setting.pass_seconds(3)

    assert client.is_closed()


def test_queries_keep_a_connection_open(setting: Setting) -> None:
    client = setting.connect()

    for number in range(1, 6):
        client.send(framed(b"query"))
        setting.until_answered(client, number)
        setting.pass_seconds(9)

    assert not client.is_closed()


def test_an_answer_that_comes_after_the_end_of_its_connection_is_dropped(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(b"query"))
    setting.until(lambda: setting.asked)
    setting.pass_seconds(13)

    setting.asked[0][1](b"late")

    assert client.is_closed()
    assert client.answers() == []


def test_a_33rd_connection_is_closed_at_once(setting: Setting) -> None:
    clients = [setting.connect() for _ in range(32)]
    one_more = setting.connect()

    setting.until(one_more.is_closed)
    for client in clients:
        client.send(framed(b"query"))
    setting.until(lambda: all(client.answers() for client in clients))

    assert setting.connections() == 32


def test_who_leaves_makes_room(setting: Setting) -> None:
    clients = [setting.connect() for _ in range(32)]
    setting.until(lambda: setting.connections() == 32)
    clients[0].socket.close()
    setting.until(lambda: setting.connections() == 31)

    next_one = setting.connect()
    next_one.send(framed(b"query"))
    setting.until_answered(next_one)

    assert next_one.answers() == [b"re query"]


def test_who_leaves_while_an_answer_is_due_is_forgotten(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(b"query"))
    setting.until(lambda: setting.asked)

    client.socket.close()
    setting.until(lambda: setting.connections() == 0)

    setting.asked[0][1](b"late")


# How much


def test_answers_that_are_not_read_are_held_up_to_256_kib(setting: Setting) -> None:
    setting.ask = lambda query, reply: at_once(query * 30000, reply)
    client = setting.connect()

    client.send(framed(*[b"xx"] * 4))
    setting.settle()
    setting.until_answered(client, 4)

    assert client.answers() == [b"re " + b"x" * 60000] * 4


def test_who_reads_none_of_more_than_256_kib_is_hung_up_on(setting: Setting) -> None:
    setting.ask = lambda query, reply: at_once(query * 30000, reply)
    client, other = setting.connect(), setting.connect()

    client.send(framed(*[b"xx"] * 60))
    setting.until(lambda: setting.connections() == 1)
    other.send(framed(b"xx"))
    setting.until_answered(other)

    assert client.is_closed()
    assert len(client.answers()) < 60


def test_who_reads_no_answers_is_hung_up_on_after_ten_seconds(setting: Setting) -> None:
    client = setting.connect()
    setting.ask = lambda query, reply: at_once(query * 30000, reply)
    client.send(framed(*[b"xx"] * 6))
    setting.settle()

    setting.pass_seconds(10)
    assert setting.connections() == 1
    setting.pass_seconds(3)

    assert setting.connections() == 0


def test_who_reads_but_a_part_of_the_answers_is_hung_up_on_after_ten_seconds(setting: Setting) -> None:
    client = setting.connect()
    setting.ask = lambda query, reply: at_once(query * 30000, reply)
    client.send(framed(*[b"xx"] * 7))
    setting.settle()
    setting.pass_seconds(5)
    assert setting.connections() == 1

    client.read(200000)
    setting.settle()
    setting.pass_seconds(8)

    assert setting.connections() == 0


def test_no_more_than_64_queries_of_a_connection_wait_at_a_time(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(*[b"%d" % number for number in range(100)]))
    setting.settle()
    assert len(setting.asked) == 64

    setting.asked[5][1](b"answer")
    setting.settle()
    assert len(setting.asked) == 65

    for _query, reply in setting.asked:
        reply(b"answer")
    setting.settle()
    assert [query for query, _reply in setting.asked] == [b"%d" % number for number in range(100)]


def test_what_a_client_sends_while_64_of_its_queries_wait_stays_in_its_socket(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(*[b"query"] * 64))
    setting.until(lambda: len(setting.asked) == 64)

    def send_a_megabyte() -> None:
        for _ in range(100):
            client.send(bytes(10000))
            setting.settle()

    with pytest.raises(BlockingIOError):
        send_a_megabyte()


def test_other_clients_are_served_while_64_queries_of_one_wait(setting: Setting) -> None:
    setting.ask = setting.later
    client, other = setting.connect(), setting.connect()
    client.send(framed(*[b"query"] * 64))
    setting.until(lambda: len(setting.asked) == 64)
    client.send(framed(b"one more"))
    setting.ask = at_once

    other.send(framed(b"query"))
    setting.until_answered(other)
    setting.settle()

    assert client.answers() == []


# Ends


def test_who_only_stops_asking_still_gets_the_answers(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(b"first", b"second"))
    client.socket.shutdown(socket.SHUT_WR)
    setting.settle()

    for query, reply in setting.asked:
        reply(b"re " + query)
        setting.settle()

    assert client.answers() == [b"re first", b"re second"]
    assert client.is_closed()


def test_who_stops_asking_is_answered_what_had_to_wait_its_turn(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(*[b"%d" % number for number in range(70)]))
    client.socket.shutdown(socket.SHUT_WR)
    setting.settle()

    while setting.asked:
        query, reply = setting.asked.pop(0)
        reply(b"re " + query)
    setting.until(client.has_ended)

    assert client.answers() == [b"re %d" % number for number in range(70)]


def test_who_stops_asking_gets_answers_that_are_more_than_the_socket_holds(setting: Setting) -> None:
    setting.ask = lambda query, reply: at_once(query * 30000, reply)
    client = setting.connect()
    client.send(framed(*[b"xx"] * 6))
    client.socket.shutdown(socket.SHUT_WR)
    setting.settle()

    setting.until(client.has_ended)

    assert len(client.answers()) == 6


def test_who_stops_within_a_query_is_hung_up_on(setting: Setting) -> None:
    client = setting.connect()
    client.send(framed(b"query")[:-1])
    client.socket.shutdown(socket.SHUT_WR)

    setting.until(client.has_ended)

    assert client.answers() == []


def test_after_the_end_nobody_is_served(setting: Setting) -> None:
    setting.ask = setting.later
    client = setting.connect()
    client.send(framed(b"query"))
    setting.until(lambda: setting.asked)

    setting.server.close()
    late = setting.connect()
    late.send(framed(b"query"))
    setting.settle()
    setting.asked[0][1](b"late")

    assert client.is_closed()
    assert client.answers() == []
    assert len(setting.asked) == 1


def test_after_the_end_no_timer_is_left(setting: Setting) -> None:
    setting.connect()
    setting.settle()

    setting.server.close()
    setting.pass_seconds(3)

    assert setting.loop._timers == []
