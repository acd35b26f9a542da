"""Messages of DNS: names, other people's answers cut, aged and taken apart; dnspython is the judge."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.resolver import wire
from tests.unit.dns_queries import query, read
from tests.unit.strategies import dns_records, packed_names


def reply(asked: bytes, *rrsets: tuple[str, str, str], options: int = 0) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(asked))
    if options:
        made.use_edns(0, payload=4096, options=[dns.edns.GenericOption(65001, b"x" * options)])
    for name, kind, data in rrsets:
        made.answer.append(dns.rrset.from_text(name, 60, "IN", kind, data))
    return made.to_wire(max_size=65535)


def question(name: bytes) -> wire.Question | None:
    found = wire.read_query(b"\0\7\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1")
    return found.question if isinstance(found, wire.Query) else None


# Names


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=5))
def test_a_name_is_what_dnspython_takes_it_for(labels: list[bytes]) -> None:
    try:
        name = dns.name.Name([*labels, b""])
    except dns.name.NameTooLong:
        return
    found = question(name.to_wire())

    assert found is not None
    assert found.packed == name.to_wire()
    if b"." not in b"".join(labels) and b"\\" not in b"".join(labels):
        assert wire.pack_name(found.name) == name.canonicalize().to_wire()


@given(
    st.lists(
        st.lists(st.sampled_from([b"a", b"B", b".", b"\\", b"\xc3"]), min_size=1, max_size=4), max_size=3
    )
)
def test_names_have_the_same_text_only_where_they_are_equal(labels: list[list[bytes]]) -> None:
    whole = dns.name.Name([*(b"".join(label) for label in labels), b""])
    joined = dns.name.Name([b".".join(b"".join(label) for label in labels), b""]) if labels else whole

    one, other = question(whole.to_wire()), question(joined.to_wire())

    assert one is not None
    assert other is not None
    assert (one.name == other.name) == (whole == joined)


@pytest.mark.parametrize("name", ["x" * 64, "a..b", ".a", "a.", ".".join(["x" * 63] * 4), "\ud800", "ä" * 32])
def test_what_is_no_name_is_not_packed(name: str) -> None:
    with pytest.raises(wire.Malformed):
        wire.pack_name(name)


# Answers of others


@pytest.mark.parametrize("limit", [512, 1232])
@pytest.mark.parametrize("options", [0, 20, 2000])
def test_an_answer_is_cut_to_its_question(limit: int, options: int) -> None:
    asked = query("www.example", "TXT", size=1232, dnssec=True)
    whole = reply(asked, *(("www.example.", "TXT", "x" * 200) for _ in range(7)), options=options)

    short = wire.truncated(whole, limit)

    assert len(short) <= limit
    assert read(short).flags & dns.flags.TC
    assert read(short).question == read(whole).question
    assert (read(short).answer, read(short).edns) == ([], 0)
    assert read(short).payload == read(whole).payload


def test_an_answer_that_fits_is_not_cut() -> None:
    whole = reply(query("www.example"), ("www.example.", "A", "192.0.2.1"))

    assert wire.truncated(whole, 512) is whole


def test_only_what_answers_the_query_is_its_answer() -> None:
    asked = query("www.example")
    whole = reply(query("WWW.example"), ("www.example.", "A", "192.0.2.1"))

    assert wire.is_answer_to(whole, asked)
    assert wire.is_answer_to(wire.failure(asked, wire.FORMERR), asked)
    for other in (
        b"\0\x08" + whole[2:],
        asked,
        reply(query("www.example", "AAAA")),
        reply(query("w.example")),
        b"",
    ):
        assert not wire.is_answer_to(other, asked)


def test_a_server_that_could_not_read_the_question_answers_without_one() -> None:
    failed = b"\0\7\x81\x81" + bytes(8)

    assert wire.is_answer_to(failed, query("www.example"))
    assert not wire.is_answer_to(b"\0\7\x81\x80" + bytes(8), query("www.example"))


def test_ttls_count_down_but_not_that_of_edns() -> None:
    asked = query("www.example", size=1232, dnssec=True)
    whole = reply(asked, ("www.example.", "CNAME", "a.example."), ("a.example.", "A", "192.0.2.1"), options=8)

    later = wire.aged(whole, wire.lifetimes(whole), 45)

    assert [rrset.ttl for rrset in read(later).answer] == [15, 15]
    assert read(later).ednsflags == read(whole).ednsflags
    assert [rrset.ttl for rrset in read(wire.aged(whole, wire.lifetimes(whole), 99)).answer] == [0, 0]


_OF_ONE_TYPE = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "AFSDB": "1 afs.www.example.",
    "CNAME": "a.www.example.",
    "DNAME": "a.www.example.",
    "MX": "10 mail.www.example.",
    "NS": "ns.www.example.",
    "PTR": "a.www.example.",
    "RP": "root.www.example. text.www.example.",
    "RT": "1 relay.www.example.",
    "SOA": "ns.www.example. root.www.example. 1 2 3 4 5",
    "SRV": "1 2 80 a.www.example.",
    "TXT": '"text"',
}


@pytest.mark.parametrize(("kind", "data"), _OF_ONE_TYPE.items())
def test_records_stand_in_another_message_without_pointers(kind: str, data: str) -> None:
    asked = query("www.example", kind)
    wanted = reply(asked, ("www.example.", kind, data))
    parsed = wire.read_query(query("another.name", kind))
    assert isinstance(parsed, wire.Query)

    moved = read(b"\0\7" + wire.build(parsed, wire.Answer(wire.expanded(wanted))))

    assert moved.answer == read(wanted).answer


@given(packed_names(), st.lists(dns_records(), max_size=4), st.integers(0, 3), st.integers(512, 1232))
def test_any_message_of_a_server_is_dealt_with(
    name: bytes, records: list[bytes], off: int, limit: int
) -> None:
    counts = (1, max(len(records) - off, 0), off, 0)
    head = b"\0\7\x81\x80" + b"".join(count.to_bytes(2) for count in counts)
    message = b"".join((head, name, b"\0\1\0\1", *records))

    deal_with(message, limit)


@given(st.binary(min_size=6, max_size=600), st.sampled_from([0, 1, 2]), st.integers(512, 1232))
def test_any_bytes_from_a_server_are_dealt_with(data: bytes, questions: int, limit: int) -> None:
    deal_with(b"\0\7\x81\x80" + questions.to_bytes(2) + data, limit)


def deal_with(message: bytes, limit: int) -> None:
    """No error but Malformed, nothing that is too long, and nothing taken apart that cannot be read."""
    wire.is_answer_to(message, query("front"))
    shorter = wire.truncated(message, limit)
    assert len(shorter) <= limit
    assert shorter == message or shorter[2] & 2
    for read_it in (wire.lifetimes, wire.negative_lifetime, wire.expanded):
        try:
            read_it(message)
        except wire.Malformed:
            continue
