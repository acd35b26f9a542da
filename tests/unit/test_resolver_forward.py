"""Queries that others answer: whom the resolver asks, when it goes on to the next, and what it passes on."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from cnm.resolver import asking, wire
from cnm.resolver.answers import Forward
from cnm.resolver.asking import Asker, Inside
from cnm.resolver.forward import Forwarder
from cnm.resolver.records import Scope, Server
from cnm.resolver.state import Settings, State
from cnm.resolver.stats import Stats
from cnm.sidecar.loop import Loop
from tests.support.clocks import FakeClock
from tests.unit.dns_queries import addresses, code, query, read
from tests.unit.relay_loop import turn_until_quiet

ONE, TWO, THREE, FOUR = (f"192.0.2.{number}" for number in (1, 2, 3, 4))


class Asked:
    """A question on its way to a server that answers as the test says."""

    def __init__(self, server: Server, query: bytes, tcp: bool, inside: Inside, asker: Asker) -> None:
        self.server, self.query, self.tcp, self.inside, self.asker = server, query, tcp, inside, asker
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def answer(self, *texts: str, ttl: int = 60, rcode: str = "NOERROR") -> None:
        """With addresses of the name that was asked for."""
        message = dns.message.from_wire(self.query)
        made = dns.message.make_response(message)
        made.set_rcode(dns.rcode.from_text(rcode))
        if texts:
            made.answer.append(dns.rrset.from_text(message.question[0].name, ttl, "IN", "A", *texts))
        self.say(made.to_wire())

    def say(self, message: bytes) -> None:
        self.asker.answered(self, message)

    def fail(self) -> None:
        self.close()
        self.asker.failed(self)


class FakeAsking:
    """Keeps what is asked; servers in `unreachable` cannot even be asked."""

    def __init__(self) -> None:
        self.all: list[Asked] = []
        self.unreachable: set[str] = set()

    def ask(self, server: Server, query: bytes, tcp: bool, inside: Inside, asker: Asker) -> Asked:
        if server.address in self.unreachable:
            raise OSError("no route to it")
        self.all.append(Asked(server, query, tcp, inside, asker))
        return self.all[-1]

    @property
    def servers(self) -> list[str]:
        return [asked.server.address for asked in self.all]

    @property
    def open(self) -> list[Asked]:
        return [asked for asked in self.all if not asked.closed]


class Setting:
    """A forwarder for the scopes `box` and `crate`, which have no servers of their own, and `own`, which has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, resolv_conf: Path) -> None:
        self.clock = FakeClock()
        self.loop = Loop(clock=self.clock.now)
        self.state = State()
        self.stats = Stats()
        self.asking = FakeAsking()
        self.forwarder = Forwarder(self.loop, self.state, self.stats)
        monkeypatch.setattr(self.forwarder, "_asking", self.asking)
        self._resolv_conf = resolv_conf
        self.set_host_servers(ONE, TWO)
        self.set_settings()
        self.set_scope(Scope("box", ()))
        self.set_scope(Scope("crate", ()))
        self.set_own_servers(THREE, FOUR)

    def set_host_servers(self, *servers: str) -> None:
        self._resolv_conf.write_text("".join(f"nameserver {server}\n" for server in servers))
        self.clock.time += 1  # until the file is looked at again

    def set_own_servers(self, *servers: str) -> None:
        self.set_scope(Scope("own", (), servers=tuple(Server(server, True) for server in servers)))

    def set_scope(self, scope: Scope) -> None:
        self.state.book.set_scope(scope)
        self.state.sockets[scope.id] = {}

    def set_settings(self, cache: bool = True, not_servers: tuple[str, ...] = ()) -> None:
        self.state.settings = Settings(str(self._resolv_conf), cache, not_servers)

    def ask(self, scope: str = "box", asked: bytes | None = None, tcp: bool = False) -> list[bytes]:
        """Where its answers will be."""
        asked = query("example.com") if asked is None else asked
        parsed = wire.read_query(asked)
        assert isinstance(parsed, wire.Query)
        answers: list[bytes] = []
        self.forwarder.ask(scope, asked, Forward(asked, parsed), tcp, answers.append)
        return answers

    def pass_seconds(self, seconds: float) -> None:
        self.clock.time += seconds
        self.loop.run_once(0)


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(monkeypatch, tmp_path / "resolv.conf")
    yield setting
    setting.loop.close()


# Whom


def test_the_host_s_first_server_is_asked_and_its_answer_is_passed_on(setting: Setting) -> None:
    answers = setting.ask(asked=query("example.com", ident=4711))
    setting.asking.all[0].answer("198.51.100.1")

    (answer,) = answers
    assert addresses(answer) == ["198.51.100.1"]
    assert read(answer).id == 4711
    assert setting.asking.servers == [ONE]


def test_a_scope_s_own_servers_are_asked_from_inside_in_place_of_the_host_s(setting: Setting) -> None:
    setting.ask("own")
    setting.pass_seconds(1)

    assert [asked.server for asked in setting.asking.all] == [Server(THREE, True), Server(FOUR, True)]


def test_what_came_over_tcp_is_asked_over_tcp(setting: Setting) -> None:
    setting.ask(tcp=True)

    assert [asked.tcp for asked in setting.asking.all] == [True]


def test_without_servers_there_is_a_failure(setting: Setting) -> None:
    setting.set_host_servers()

    (answer,) = setting.ask()

    assert code(answer) == "SERVFAIL"


def test_who_is_on_internal_networks_only_asks_nobody(setting: Setting) -> None:
    setting.set_scope(Scope("box", (), external=False))

    (answer,) = setting.ask()

    assert code(answer) == "SERVFAIL"
    assert setting.asking.all == []


def test_own_servers_are_asked_from_internal_networks_too(setting: Setting) -> None:
    setting.set_scope(Scope("own", (), servers=(Server(THREE, True),), external=False))

    setting.ask("own")

    assert setting.asking.servers == [THREE]


@pytest.mark.parametrize("scope", ["box", "own"])
def test_addresses_that_are_ourselves_are_never_asked(setting: Setting, scope: str) -> None:
    setting.set_settings(not_servers=(ONE, THREE))

    setting.ask(scope)
    setting.pass_seconds(1)

    assert set(setting.asking.servers) == {TWO if scope == "box" else FOUR}


def test_who_has_none_but_ourselves_for_a_server_is_not_sent_to_the_host_s(setting: Setting) -> None:
    setting.set_settings(not_servers=(THREE, FOUR))

    (answer,) = setting.ask("own")

    assert code(answer) == "SERVFAIL"
    assert setting.asking.all == []


@pytest.mark.parametrize("scope", ["box", "own"])
def test_no_more_than_three_servers_are_asked(setting: Setting, scope: str) -> None:
    setting.set_host_servers(ONE, TWO, THREE, FOUR)
    setting.set_own_servers(ONE, TWO, THREE, FOUR)

    setting.ask(scope)
    for _ in range(10):
        setting.pass_seconds(1)

    assert setting.asking.servers == [ONE, TWO, THREE]


# When the next


def test_after_a_second_of_silence_the_next_server_is_asked_as_well(setting: Setting) -> None:
    setting.ask()

    setting.pass_seconds(0.5)
    assert setting.asking.servers == [ONE]
    setting.pass_seconds(0.5)

    assert setting.asking.servers == [ONE, TWO]
    assert len(setting.asking.open) == 2


def test_an_answer_that_is_late_counts_still(setting: Setting) -> None:
    answers = setting.ask()
    setting.pass_seconds(1)
    first, second = setting.asking.all

    first.answer("198.51.100.1")
    second.answer("198.51.100.2")

    assert [addresses(answer) for answer in answers] == [["198.51.100.1"]]
    assert setting.asking.open == []


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_after_a_failure_the_next_server_is_asked_at_once(setting: Setting, rcode: str) -> None:
    answers = setting.ask()
    setting.asking.all[0].answer(rcode=rcode)
    assert answers == []

    setting.asking.all[1].answer("198.51.100.2")

    assert [addresses(answer) for answer in answers] == [["198.51.100.2"]]


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "FORMERR", "NOTIMP"])
def test_other_codes_are_passed_on_as_they_are(setting: Setting, rcode: str) -> None:
    answers = setting.ask()

    setting.asking.all[0].answer(rcode=rcode)

    assert [code(answer) for answer in answers] == [rcode]
    assert setting.asking.servers == [ONE]


def test_the_last_failure_is_passed_on(setting: Setting) -> None:
    answers = setting.ask()

    setting.asking.all[0].answer(rcode="SERVFAIL")
    setting.asking.all[1].answer(rcode="REFUSED")

    assert [code(answer) for answer in answers] == ["REFUSED"]


def test_a_failure_is_passed_on_where_the_others_cannot_be_reached(setting: Setting) -> None:
    answers = setting.ask()

    setting.asking.all[0].answer(rcode="REFUSED")
    setting.asking.all[1].fail()

    assert [code(answer) for answer in answers] == ["REFUSED"]


def test_a_failure_is_passed_on_where_the_others_are_silent(setting: Setting) -> None:
    answers = setting.ask()

    setting.asking.all[0].answer(rcode="REFUSED")
    for _ in range(5):
        setting.pass_seconds(1)

    assert [code(answer) for answer in answers] == ["REFUSED"]


def test_a_failure_does_not_end_the_wait_for_a_server_that_was_silent(setting: Setting) -> None:
    answers = setting.ask()
    setting.pass_seconds(1)
    first, second = setting.asking.all

    second.answer(rcode="SERVFAIL")
    assert answers == []
    first.answer("198.51.100.1")

    assert [addresses(answer) for answer in answers] == [["198.51.100.1"]]


def test_after_a_server_that_hangs_up_the_next_one_is_asked_at_once(setting: Setting) -> None:
    setting.ask()

    setting.asking.all[0].fail()

    assert setting.asking.servers == [ONE, TWO]


def test_a_server_that_cannot_be_asked_is_passed_over_at_once(setting: Setting) -> None:
    setting.asking.unreachable = {ONE}

    setting.ask()

    assert setting.asking.servers == [TWO]


def test_where_no_further_server_can_be_asked_a_failure_is_passed_on_at_once(setting: Setting) -> None:
    setting.asking.unreachable = {TWO}
    answers = setting.ask()

    setting.asking.all[0].answer(rcode="REFUSED")

    assert [code(answer) for answer in answers] == ["REFUSED"]


def test_a_single_server_is_asked_twice(setting: Setting) -> None:
    setting.set_host_servers(ONE)

    answers = setting.ask()
    setting.pass_seconds(1)
    setting.asking.all[1].answer("198.51.100.1")

    assert setting.asking.servers == [ONE, ONE]
    assert [addresses(answer) for answer in answers] == [["198.51.100.1"]]


def test_where_all_are_silent_there_is_a_failure_four_seconds_after_the_last_was_asked(
    setting: Setting,
) -> None:
    answers = setting.ask()

    setting.pass_seconds(1)
    setting.pass_seconds(3.5)
    assert answers == []
    setting.pass_seconds(0.5)

    assert [code(answer) for answer in answers] == ["SERVFAIL"]
    assert setting.asking.open == []


def test_a_server_that_is_asked_early_has_its_four_seconds_too(setting: Setting) -> None:
    answers = setting.ask()
    setting.pass_seconds(0.5)
    setting.asking.all[0].fail()

    setting.pass_seconds(0.5)
    setting.pass_seconds(3.25)
    assert answers == []
    setting.asking.all[1].answer("198.51.100.2")

    assert [addresses(answer) for answer in answers] == [["198.51.100.2"]]


def test_where_all_hang_up_there_is_a_failure_at_once(setting: Setting) -> None:
    answers = setting.ask()

    for asked in (0, 1):
        setting.asking.all[asked].fail()

    assert [code(answer) for answer in answers] == ["SERVFAIL"]


# What counts as an answer


def test_servers_are_asked_with_an_id_that_is_not_the_client_s(setting: Setting) -> None:
    for number in range(8):
        setting.ask(asked=query(f"{number}.example"))

    asked = [asked.query for asked in setting.asking.all]
    assert len({each[:2] for each in asked}) > 1
    assert [each[2:] for each in asked] == [query(f"{number}.example")[2:] for number in range(8)]


@pytest.mark.parametrize("wrong", ["id", "question", "no answer", "short"])
def test_what_is_no_answer_to_the_question_is_passed_over(setting: Setting, wrong: str) -> None:
    answers = setting.ask()
    asked = setting.asking.all[0]
    response = dns.message.make_response(dns.message.from_wire(asked.query)).to_wire()
    other = dns.message.make_response(dns.message.from_wire(query("example.org")))
    other.id = dns.message.from_wire(asked.query).id

    asked.say(
        {
            "id": bytes((response[0] ^ 1,)) + response[1:],
            "question": other.to_wire(),
            "no answer": asked.query,
            "short": response[:11],
        }[wrong]
    )
    assert answers == []
    asked.answer("198.51.100.1")

    assert [addresses(answer) for answer in answers] == [["198.51.100.1"]]


# Many


def test_equal_queries_are_asked_once_and_each_gets_the_answer_with_its_own_id(setting: Setting) -> None:
    first = setting.ask("box", query("example.com", ident=1))
    second = setting.ask("crate", query("example.com", ident=2))

    setting.asking.all[0].answer("198.51.100.1")

    assert setting.asking.servers == [ONE]
    assert [read(answer).id for answer in first + second] == [1, 2]
    assert [addresses(answer) for answer in first + second] == [["198.51.100.1"]] * 2


@pytest.mark.parametrize(
    "other",
    [
        ("box", query("example.org"), False),
        ("box", query("example.com", "AAAA"), False),
        ("box", query("example.com", size=1232), False),
        ("box", query("example.com"), True),
        ("own", query("example.com"), False),
    ],
    ids=["name", "type", "edns", "tcp", "servers"],
)
def test_other_queries_are_asked_by_themselves(setting: Setting, other: tuple[str, bytes, bool]) -> None:
    setting.ask("box", query("example.com"))

    setting.ask(*other)

    assert len(setting.asking.all) == 2


def fill(setting: Setting) -> None:
    for number in range(1024):
        setting.ask(asked=query(f"{number}.example"))


def test_beyond_1024_at_the_same_time_queries_are_refused(setting: Setting) -> None:
    fill(setting)

    (answer,) = setting.ask(asked=query("more.example"))

    assert code(answer) == "REFUSED"
    assert len(setting.asking.all) == 1024


def test_an_answer_makes_room_for_another_query(setting: Setting) -> None:
    fill(setting)
    setting.asking.all[7].answer("198.51.100.1")

    answers = setting.ask(asked=query("more.example"))

    assert answers == []
    assert len(setting.asking.all) == 1025


def test_queries_that_are_asked_already_are_never_refused(setting: Setting) -> None:
    fill(setting)

    assert setting.ask(asked=query("7.example")) == []


def test_refused_queries_are_complained_about_every_ten_seconds(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    fill(setting)
    with caplog.at_level(logging.WARNING, "cnm.resolver"):
        setting.ask(asked=query("more.example"))
        setting.clock.time += 10
        setting.ask(asked=query("more.example"))
        assert len(caplog.records) == 1
        setting.clock.time += 0.1
        setting.ask(asked=query("more.example"))

    assert len(caplog.records) == 2
    assert "1024 queries" in caplog.text


# Scopes that go


def test_whoever_waits_in_a_scope_that_goes_gets_no_answer(setting: Setting) -> None:
    answers = setting.ask("own")
    asked = setting.asking.all[0]

    setting.forwarder.forget("own")
    asked.answer("198.51.100.1")
    for _ in range(10):
        setting.pass_seconds(1)

    assert answers == []
    assert setting.asking.servers == [THREE]
    assert setting.asking.open == []


def test_a_scope_that_comes_back_asks_its_new_servers_through_its_new_sockets(setting: Setting) -> None:
    setting.ask("own")
    setting.forwarder.forget("own")
    setting.set_own_servers(TWO)

    answers = setting.ask("own")
    before, after = setting.asking.all
    after.answer("198.51.100.2")

    assert [addresses(answer) for answer in answers] == [["198.51.100.2"]]
    assert after.inside is not before.inside


def test_others_wait_on_when_a_scope_goes(setting: Setting) -> None:
    answers = setting.ask("box")
    setting.ask("own")

    setting.forwarder.forget("own")
    setting.asking.all[0].answer("198.51.100.1")

    assert [addresses(answer) for answer in answers] == [["198.51.100.1"]]


def test_a_scope_that_goes_does_not_take_along_a_question_that_others_share(setting: Setting) -> None:
    setting.ask("box")
    answers = setting.ask("crate")

    setting.forwarder.forget("box")
    setting.asking.all[0].answer("198.51.100.1")

    assert [addresses(answer) for answer in answers] == [["198.51.100.1"]]


# What is kept


def test_what_was_answered_is_not_asked_again(setting: Setting) -> None:
    setting.ask("box")
    setting.asking.all[0].answer("198.51.100.1")

    (answer,) = setting.ask("crate", query("example.com", ident=9))

    assert (addresses(answer), read(answer).id) == (["198.51.100.1"], 9)
    assert setting.asking.servers == [ONE]
    assert (setting.stats.forwarded, setting.stats.cached) == (1, 1)


def test_nothing_is_kept_where_the_settings_say_so(setting: Setting) -> None:
    setting.set_settings(cache=False)
    setting.ask()
    setting.asking.all[0].answer("198.51.100.1")
    setting.set_settings(cache=True)

    setting.ask()

    assert setting.asking.servers == [ONE, ONE]


def test_what_was_kept_is_not_told_while_the_settings_say_so(setting: Setting) -> None:
    setting.ask()
    setting.asking.all[0].answer("198.51.100.1")
    setting.set_settings(cache=False)

    setting.ask()

    assert setting.asking.servers == [ONE, ONE]


def test_failures_are_not_kept(setting: Setting) -> None:
    setting.set_host_servers(ONE)
    setting.ask()
    for number in (0, 1):
        setting.asking.all[number].answer(rcode="SERVFAIL")

    setting.ask()

    assert len(setting.asking.all) == 3


def test_a_scope_does_not_hear_what_another_s_servers_said(setting: Setting) -> None:
    setting.ask("own")
    setting.asking.all[0].answer("198.51.100.3")

    setting.ask("box")

    assert setting.asking.servers == [THREE, ONE]


def test_what_a_scope_s_servers_said_goes_with_it(setting: Setting) -> None:
    setting.ask("own")
    setting.asking.all[0].answer("198.51.100.3")
    setting.forwarder.forget("own")

    setting.ask("own")

    assert setting.asking.servers == [THREE, THREE]


def test_where_no_server_can_be_asked_there_is_a_failure_at_once(setting: Setting) -> None:
    setting.asking.unreachable = {ONE, TWO}
    (answer,) = setting.ask()

    assert code(answer) == "SERVFAIL"


def test_a_server_has_its_second_also_after_one_that_failed(setting: Setting) -> None:
    setting.set_host_servers(ONE, TWO, THREE)
    setting.ask()
    setting.pass_seconds(0.75)
    setting.asking.all[0].answer(rcode="SERVFAIL")
    setting.pass_seconds(0.25)
    assert setting.asking.servers == [ONE, TWO]
    setting.pass_seconds(0.75)
    assert setting.asking.servers == [ONE, TWO, THREE]


@pytest.mark.parametrize("inside", [False, True])
def test_a_single_server_is_asked_twice_over_udp(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inside: bool
) -> None:
    setting = Setting(monkeypatch, tmp_path / "resolv.conf")
    monkeypatch.setattr(setting.forwarder, "_asking", asking.Asking(setting.loop))
    kind = (socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(*kind) as server, socket.socket(*kind) as mine:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        monkeypatch.setattr(asking, "_PORT", server.getsockname()[1])
        setting.set_scope(Scope("own", (), servers=(Server("127.0.0.1", inside),)))
        setting.state.sockets["own"] = {"0/udp4": mine}
        answers = setting.ask("own")
        setting.pass_seconds(1)
        asked = [server.recvfrom(512) for _ in range(2)]
        assert [data[2:] for data, _ in asked] == [query("example.com")[2:]] * 2
        for data, address in asked:
            server.sendto(data[:2] + b"\x81\x80" + data[4:], address)
        turn_until_quiet(setting.loop)
    assert [code(answer) for answer in answers] == ["NOERROR"]


def test_a_wrong_answer_over_tcp_is_a_failure_of_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = Setting(monkeypatch, tmp_path / "resolv.conf")
    monkeypatch.setattr(setting.forwarder, "_asking", asking.Asking(setting.loop))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        monkeypatch.setattr(asking, "_PORT", server.getsockname()[1])
        setting.set_host_servers("127.0.0.1")
        setting.ask(tcp=True)
        channel, _ = server.accept()
        with channel:
            channel.sendall(b"\0\x0c" + b"\0" * 12)
            turn_until_quiet(setting.loop)
            again, _ = server.accept()
            again.close()


def test_what_the_host_s_server_says_is_not_told_to_a_scope_that_is_gone(setting: Setting) -> None:
    setting.set_scope(Scope("other", ()))
    gone, there = setting.ask("box"), setting.ask("other")
    setting.forwarder.forget("box")
    setting.asking.all[0].answer("198.51.100.1")

    assert (gone, len(there)) == ([], 1)
