"""What a scope is answered: dnspython asks, and reads the answers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.resolver import wire
from cnm.resolver.answers import Answers, Forward
from cnm.resolver.records import Book, Member, Record, Scope, Server
from tests.unit.dns_queries import addresses, code, most_bytes, query, read
from tests.unit.strategies import dns_records, packed_names


def make_book() -> Book:
    made = Book()
    made.set_zone("w", "web")
    made.set_member("w", Member("w1", ("front", "www"), "10.1.0.2", "fd01::2"))
    made.set_member("w", Member("w2", ("back", "www"), "10.1.0.3", ""))
    made.set_records(
        "w",
        [
            Record("out", "CNAME", "example.com"),
            Record("in", "CNAME", "front"),
            Record("far", "CNAME", "in"),
            Record("round", "CNAME", "about"),
            Record("about", "CNAME", "round"),
        ],
    )
    made.set_scope(Scope("box", ("w",)))
    made.set_scope(Scope("dotted", ("w",), ndots=1))
    made.set_scope(Scope("host", (), everywhere=True, alone=True))
    return made


@pytest.fixture
def book() -> Book:
    return make_book()


@pytest.fixture
def answers(book: Book) -> Answers:
    return Answers(book, "box")


def test_an_address_is_answered(answers: Answers) -> None:
    answer = answers.answer(query("front", ident=4711), True)

    assert addresses(answer) == ["10.1.0.2"]
    assert read(answer).id == 4711
    assert read(answer).flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert read(answer).answer[0].ttl == 600


def test_the_same_query_is_answered_alike_with_its_own_id(answers: Answers) -> None:
    first, second = (answers.answer(query("front", ident=ident), True) for ident in (1, 2))

    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert (first[:2], second[:2]) == (b"\0\1", b"\0\2")
    assert first[2:] == second[2:]


def test_the_other_family_is_answered_by_itself(answers: Answers) -> None:
    assert addresses(answers.answer(query("front", "AAAA"), True)) == ["fd01::2"]


@pytest.mark.parametrize("kind", ["AAAA", "MX", "TXT", "SOA", "HTTPS", "SRV", "NS"])
def test_a_known_name_without_such_a_record_is_no_error(answers: Answers, kind: str) -> None:
    answer = answers.answer(query("back", kind), True)

    assert (code(answer), read(answer).answer) == ("NOERROR", [])


def test_any_gives_both_families(answers: Answers) -> None:
    assert sorted(addresses(answers.answer(query("front", "ANY"), True))) == ["10.1.0.2", "fd01::2"]


def test_case_does_not_matter_and_comes_back_as_it_was(answers: Answers) -> None:
    answer = answers.answer(query("FrOnT.WeB"), True)

    assert addresses(answer) == ["10.1.0.2"]
    assert str(read(answer).question[0].name) == "FrOnT.WeB."
    assert str(read(answer).answer[0].name) == "FrOnT.WeB."


def test_addresses_of_a_shared_name_take_turns(answers: Answers) -> None:
    firsts = [addresses(answers.answer(query("www"), True))[0] for _ in range(10)]

    assert sorted(firsts) == ["10.1.0.2"] * 5 + ["10.1.0.3"] * 5


@pytest.mark.parametrize("number", [3, 64, 65])
def test_each_address_of_a_name_comes_first_equally_often(book: Book, answers: Answers, number: int) -> None:
    many(book, number)

    told = [addresses(answers.answer(query("many"), False)) for _ in range(2 * number)]

    assert all(sorted(each) == sorted(told[0]) for each in told)
    assert {first: [each[0] for each in told].count(first) for first in told[0]} == dict.fromkeys(told[0], 2)


def test_a_change_shows_in_the_next_answer(book: Book, answers: Answers) -> None:
    assert addresses(answers.answer(query("back"), True)) == ["10.1.0.3"]
    book.set_member("w", Member("w2", ("back",), "10.1.0.77", ""))
    assert addresses(answers.answer(query("back"), True)) == ["10.1.0.77"]
    book.drop_member("w", "w2")
    assert isinstance(answers.answer(query("back"), True), Forward)


def test_an_unknown_name_is_forwarded_as_it_came(answers: Answers) -> None:
    asked = query("example.com", size=1400)
    found = answers.answer(asked, True)

    assert isinstance(found, Forward)
    assert found.query == asked
    assert found.limit == 1400


def test_a_name_without_a_dot_is_nobodys_where_dots_are_demanded(book: Book) -> None:
    dotted = Answers(book, "dotted")

    assert (
        code(dotted.answer(query("nobody"), True)),
        read(dotted.answer(query("nobody"), True)).answer,
    ) == ("NOERROR", [])
    assert isinstance(dotted.answer(query("nobody.example"), True), Forward)


# Reverse lookups and services


@pytest.mark.parametrize(
    ("address", "name"),
    [("3.0.1.10.in-addr.arpa", "back.web."), (f"2.{'0.' * 27}1.0.d.f.ip6.arpa", "front.web.")],
)
def test_an_address_has_a_name(answers: Answers, address: str, name: str) -> None:
    answer = read(answers.answer(query(address, "PTR"), True)).answer[0]

    assert [str(data.target) for data in answer] == [name]


@pytest.mark.parametrize(
    "name",
    ["9.0.1.10.in-addr.arpa", "1.10.in-addr.arpa", "x.0.1.10.in-addr.arpa", "1.0.ip6.arpa", "in-addr.arpa"],
)
def test_other_reverse_names_are_forwarded(answers: Answers, name: str) -> None:
    assert isinstance(answers.answer(query(name, "PTR"), True), Forward)


def test_an_address_whose_name_fits_no_label_is_a_failure(book: Book, answers: Answers) -> None:
    book.set_member("w", Member("w5", ("x" * 64,), "10.1.0.5", ""))

    assert code(answers.answer(query("5.0.1.10.in-addr.arpa", "PTR"), True)) == "SERVFAIL"


def test_a_service_is_at_the_port_in_its_name(answers: Answers) -> None:
    answer = read(answers.answer(query("_8080._tcp.front", "SRV"), True))

    assert [(data.port, str(data.target)) for data in answer.answer[0]] == [(8080, "front.")]
    assert sorted(data.address for rrset in answer.additional for data in rrset) == ["10.1.0.2", "fd01::2"]


@pytest.mark.parametrize(
    "name", ["_http._tcp.front", "_0._tcp.front", "_70000._tcp.front", "_80._icmp.front", "_80._tcp.nobody"]
)
def test_other_services_are_nobody_s(answers: Answers, name: str) -> None:
    assert isinstance(answers.answer(query(name, "SRV"), True), Forward)


def test_a_service_can_be_below_a_wildcard(book: Book, answers: Answers) -> None:
    book.set_member("w", Member("w3", ("shop", "*.shop"), "10.1.0.4", ""))

    (rrset,) = read(answers.answer(query("_80._tcp.X.shop", "SRV"), True)).answer

    assert [(data.port, str(data.target)) for data in rrset] == [(80, "X.shop.")]


def test_addresses_of_a_service_are_left_out_where_they_do_not_fit(book: Book, answers: Answers) -> None:
    many(book, 100)

    answer = read(answers.answer(query("_80._tcp.many", "SRV"), True))

    assert (len(answer.answer), answer.additional, answer.flags & dns.flags.TC) == (1, [], 0)


# Records of a network


def test_an_alias_of_a_known_name_comes_with_its_addresses(answers: Answers) -> None:
    answer = answers.answer(query("far"), True)

    assert [str(rrset.name) for rrset in read(answer).answer] == ["far.", "in.", "front."]
    assert addresses(answer) == ["10.1.0.2"]


def test_an_alias_itself_can_be_asked_for(answers: Answers) -> None:
    (rrset,) = read(answers.answer(query("far", "CNAME"), True)).answer

    assert str(rrset[0].target) == "in."


def test_aliases_in_a_circle_are_a_failure(answers: Answers) -> None:
    assert code(answers.answer(query("round"), True)) == "SERVFAIL"


def test_others_are_asked_for_what_an_alias_means(answers: Answers) -> None:
    asked = query("out", size=1232, ident=9)
    found = answers.answer(asked, True)
    assert isinstance(found, Forward)
    question = dns.message.from_wire(found.query).question[0]
    assert (str(question.name), question.rdtype) == ("example.com.", dns.rdatatype.A)

    theirs = dns.message.make_response(dns.message.from_wire(found.query))
    theirs.answer.append(dns.rrset.from_text("example.com.", 60, "IN", "CNAME", "www.example.com."))
    theirs.answer.append(dns.rrset.from_text("www.example.com.", 60, "IN", "A", "192.0.2.7"))
    whole = found.finished(asked, theirs.to_wire())

    assert [str(rrset.name) for rrset in read(whole).answer] == ["out.", "example.com.", "www.example.com."]
    assert addresses(whole) == ["192.0.2.7"]
    assert read(whole).id == 9


def test_what_others_say_of_an_alias_stays_an_error(answers: Answers) -> None:
    asked = query("out")
    found = answers.answer(asked, True)
    assert isinstance(found, Forward)

    whole = found.finished(asked, wire.failure(found.query, wire.NXDOMAIN))

    assert code(whole) == "NXDOMAIN"
    assert str(read(whole).answer[0].name) == "out."


# The host's own scope


def test_the_host_is_answered_for_networks_only(book: Book) -> None:
    host = Answers(book, "host")

    assert addresses(host.answer(query("front.web"), True)) == ["10.1.0.2"]
    for name in ("front", "example.com", "9.0.1.10.in-addr.arpa"):
        assert code(host.answer(query(name, "PTR" if "arpa" in name else "A"), True)) == "REFUSED"


# EDNS and sizes


def test_edns_is_answered_with_edns(answers: Answers) -> None:
    answer = read(answers.answer(query("front", size=4096, dnssec=True), True))

    assert (answer.edns, answer.payload) == (0, wire.OUR_SIZE)
    assert answer.ednsflags & dns.flags.DO
    assert read(answers.answer(query("front"), True)).edns == -1


def test_a_later_version_of_edns_is_refused(answers: Answers) -> None:
    asked = dns.message.make_query("front", "A", use_edns=1, payload=1232).to_wire()

    assert code(answers.answer(asked, True)) == "BADVERS"


def test_options_of_edns_are_passed_over(answers: Answers) -> None:
    for cookie in (b"12345678", b"87654321"):
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
        asked = dns.message.make_query("front", "A", use_edns=0, options=[option]).to_wire()
        assert addresses(answers.answer(asked, True)) == ["10.1.0.2"]


def test_a_cookie_is_no_reason_to_look_up_a_name_again(
    book: Book, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []
    monkeypatch.setattr(book, "find", partial(_noted, book.find, looked_up))
    for cookie in (b"12345678", b"87654321", None):
        options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)] if cookie else []
        asked = dns.message.make_query("front", "A", use_edns=0, options=options).to_wire()
        assert addresses(answers.answer(asked, True)) == ["10.1.0.2"]
    assert len(looked_up) == 1


def _noted(find: Callable[..., object], noted: list[object], *arguments: object) -> object:
    noted.append(arguments)
    return find(*arguments)


def many(book: Book, number: int) -> None:
    for each in range(number):
        book.set_member("w", Member(f"m{each}", ("many",), f"10.2.{each // 250}.{each % 250 + 1}", ""))


def test_what_does_not_fit_is_left_out_and_said_so(book: Book, answers: Answers) -> None:
    many(book, 100)

    short = answers.answer(query("many"), True)
    assert isinstance(short, bytes)
    assert 512 - 16 < len(short) <= 512
    assert read(short).flags & dns.flags.TC
    assert len(addresses(short)) == (512 - 12 - 10) // 16
    assert len(addresses(answers.answer(query("many", size=4096), True))) == 100
    assert len(addresses(answers.answer(query("many"), False))) == 100


def test_no_answer_over_udp_is_larger_than_the_query_allows(book: Book, answers: Answers) -> None:
    many(book, 400)

    for size in (512, 1232, 4096, 65535):
        answer = answers.answer(query("many", size=size), True)
        assert isinstance(answer, bytes)
        assert len(answer) <= min(size, 4096)
        assert read(answer).flags & dns.flags.TC


def test_ready_answers_take_little_memory_whatever_is_asked(book: Book, answers: Answers) -> None:
    many(book, 200)
    asked = bytearray(query("many", size=4096))
    tracemalloc.start()
    for number in range(5000):
        asked[-8:-6] = number.to_bytes(2)  # of the bits that EDNS has for later use
        answers.answer(bytes(asked), False)
    held, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 8 << 20


def test_a_name_may_be_utf8(book: Book, answers: Answers) -> None:
    book.set_member("w", Member("w3", ("café",), "10.1.0.4", ""))
    asked = wire.pack_name("café") + b"\0\1\0\1"

    assert addresses(answers.answer(HEAD + asked, True)) == ["10.1.0.4"]
    answer = read(answers.answer(query("4.0.1.10.in-addr.arpa", "PTR"), True)).answer[0]
    assert [data.target.labels[0] for data in answer] == ["café".encode()]


# What nobody should send


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"garbage", b"\0" * 11, b"\0\1\x80\0\0\1\0\0\0\0\0\0\0\0\1\0\1"], ids=repr
)
def test_what_is_no_query_is_met_with_silence(answers: Answers, garbage: bytes) -> None:
    assert answers.answer(garbage, True) is None


HEAD = b"\0\7\1\0\0\1\0\0\0\0\0\0"


@pytest.mark.parametrize(
    "malformed",
    [
        HEAD,
        HEAD + b"\5front",
        HEAD + b"\5front\0\0\1",
        HEAD + b"\xc0\x0c\0\1\0\1",
        HEAD + b"\x40" + b"x" * 64 + b"\0\0\1\0\1",
        HEAD
        + b"\x3f"
        + b"x" * 63
        + b"\x3f"
        + b"x" * 63
        + b"\x3f"
        + b"x" * 63
        + b"\x3f"
        + b"x" * 63
        + b"\0\0\1\0\1",
        HEAD + b"\5front\0\0\1\0\1trailing",
        b"\0\7\1\0\0\2\0\0\0\0\0\0" + b"\5front\0\0\1\0\1" * 2,
        b"\0\7\1\0\0\0\0\0\0\0\0\0",
        b"\0\7\1\0\0\1\0\0\0\0\0\1\5front\0\0\1\0\1" + b"\xc0",
        b"\0\7\1\0\0\1\0\0\0\0\0\2\5front\0\0\1\0\1" + b"\0\0\x29\4\xd0\0\0\0\0\0\0" * 2,
    ],
    ids=lambda value: value[12:30].hex(),
)
def test_a_malformed_query_is_told_so(answers: Answers, malformed: bytes) -> None:
    answer = answers.answer(malformed, True)

    assert isinstance(answer, bytes)
    assert answer[:2] == malformed[:2]
    assert answer[3] & 15 == wire.FORMERR


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_operations_are_not_implemented(answers: Answers, opcode: int) -> None:
    asked = bytearray(query("front"))
    asked[2] |= opcode << 3

    assert code(answers.answer(bytes(asked), True)) == "NOTIMP"


@pytest.mark.parametrize(
    "asked", [query("front", "TXT", rdclass="CH"), query("front", "AXFR")], ids=["class", "transfer"]
)
def test_other_classes_and_transfers_are_refused(answers: Answers, asked: bytes) -> None:
    assert code(answers.answer(asked, True)) == "REFUSED"


def judge(asked: bytes, outcome: object) -> None:
    """Silence, a forward that can be read, or an answer to this query that dnspython can read."""
    if isinstance(outcome, Forward):
        assert isinstance(wire.read_query(outcome.query), wire.Query)
        assert outcome.asked.question.raw in outcome.query
    elif outcome is not None:
        assert isinstance(outcome, bytes)
        assert outcome[:2] == asked[:2]
        assert outcome[2] & 0x80
        assert len(outcome) <= most_bytes(asked)
        dns.message.from_wire(outcome)


@given(st.binary(max_size=600))
def test_any_bytes_are_answered_rightly_or_not_at_all(data: bytes) -> None:
    judge(data, Answers(make_book(), "box").answer(data, True))


@given(st.binary(max_size=80), st.integers(0, 5), st.integers(0, 3))
def test_any_bytes_behind_a_header_are_answered_rightly(data: bytes, questions: int, additional: int) -> None:
    asked = b"\0\7\1\0" + questions.to_bytes(2) + bytes(4) + additional.to_bytes(2) + data

    judge(asked, Answers(make_book(), "box").answer(asked, True))


@given(packed_names(), st.sampled_from([1, 12, 28, 33, 255]), st.lists(dns_records(), max_size=2))
def test_any_name_is_answered_rightly(name: bytes, kind: int, additional: list[bytes]) -> None:
    head = HEAD[:-2] + len(additional).to_bytes(2)
    asked = b"".join((head, name, kind.to_bytes(2), b"\0\1", *additional))

    judge(asked, Answers(make_book(), "box").answer(asked, True))


@given(
    st.sampled_from(["front", "www", "out", "far", "3.0.1.10.in-addr.arpa", "_80._tcp.front", "example.com"]),
    st.sampled_from(["A", "AAAA", "ANY", "PTR", "SRV", "CNAME", "MX"]),
    st.sampled_from([0, 512, 1232]),
    st.lists(st.tuples(st.integers(2, 200), st.integers(0, 255)), max_size=4),
    st.integers(0, 20),
)
def test_damaged_queries_are_answered_rightly(
    name: str, kind: str, size: int, damage: list[tuple[int, int]], cut: int
) -> None:
    asked = bytearray(query(name, kind, size=size))
    for offset, value in damage:
        asked[offset % len(asked)] = value
    asked = asked[: len(asked) - cut] if cut < len(asked) else asked

    judge(bytes(asked), Answers(make_book(), "box").answer(bytes(asked), True))


# Others' networks


@pytest.fixture
def lone(book: Book) -> Answers:
    """Of a sandbox on another network than web."""
    book.set_zone("d", "db")
    book.set_scope(Scope("lone", ("d",)))
    return Answers(book, "lone")


@pytest.mark.parametrize(
    ("name", "kind"), [("front.web", "A"), ("in.web", "AAAA"), ("_80._tcp.front.web", "SRV")]
)
def test_a_name_that_only_the_host_knows_is_asked_of_nobody(lone: Answers, name: str, kind: str) -> None:
    assert code(lone.answer(query(name, kind), True)) == "NXDOMAIN"


def test_others_below_the_name_of_a_network_are_asked_for(lone: Answers) -> None:
    assert isinstance(lone.answer(query("example.web"), True), Forward)
    assert isinstance(lone.answer(query("front"), True), Forward)


def test_such_a_name_is_asked_for_as_soon_as_nobody_has_it(lone: Answers, book: Book) -> None:
    lone.answer(query("front.web"), True)
    book.drop_member("w", "w1")

    assert isinstance(lone.answer(query("front.web"), True), Forward)


def test_where_the_host_is_not_answered_it_is_asked_for(lone: Answers, book: Book) -> None:
    book.drop_scope("host")

    assert isinstance(lone.answer(query("front.web"), True), Forward)


def test_a_server_of_one_s_own_is_asked_for_it(lone: Answers, book: Book) -> None:
    book.set_scope(Scope("lone", ("d",), servers=(Server("192.0.2.1", True),)))

    assert isinstance(lone.answer(query("front.web"), True), Forward)
