"""Forwarded answers are kept for as long as they say, and count down."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from cnm.resolver import wire
from cnm.resolver.cache import Cache
from cnm.resolver.wire import Query
from tests.unit.dns_queries import query, read


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    return Cache(clock, 3)


def parsed(asked: bytes) -> Query:
    found = wire.read_query(asked)
    assert isinstance(found, Query)
    return found


def answer(
    asked: bytes, *records: tuple[str, int, str, str], rcode: int = 0, soa: str = "", flags: int = 0
) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(asked))
    made.set_rcode(dns.rcode.Rcode(rcode))
    made.flags |= flags
    for name, ttl, kind, data in records:
        made.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, data))
    if soa:
        made.authority.append(dns.rrset.from_text("example.", 900, "IN", "SOA", soa))
    return made.to_wire()


ASKED = query("www.example")
ANSWER = answer(ASKED, ("www.example.", 100, "CNAME", "a.example."), ("a.example.", 60, "A", "192.0.2.1"))
SOA = "ns.example. root.example. 1 2 3 4 120"


def test_what_is_kept_counts_down_and_ends_with_its_shortest_life(cache: Cache, clock: Clock) -> None:
    cache.put("", parsed(ASKED), ANSWER)
    clock.now += 25.9

    kept = cache.get("", parsed(ASKED))
    assert [rrset.ttl for rrset in read(kept).answer] == [75, 35]
    clock.now += 34.2
    assert cache.get("", parsed(ASKED)) is None
    assert len(cache) == 0


def test_case_comes_back_as_it_was_asked(cache: Cache) -> None:
    cache.put("", parsed(ASKED), ANSWER)

    kept = cache.get("", parsed(query("WWW.eXample")))
    assert str(read(kept).question[0].name) == "WWW.eXample."


@pytest.mark.parametrize(
    "other",
    [
        query("www.example", "AAAA"),
        query("w.example"),
        query("www.example", size=1232),
        query("www.example", rdclass="CH"),
    ],
    ids=["type", "name", "edns", "class"],
)
def test_other_questions_are_not_answered_by_it(cache: Cache, other: bytes) -> None:
    cache.put("", parsed(ASKED), ANSWER)

    assert cache.get("", parsed(other)) is None


def test_dnssec_and_unchecked_answers_are_kept_apart(cache: Cache) -> None:
    plain, secure = (query("www.example", size=1232, dnssec=dnssec) for dnssec in (False, True))
    cache.put("", parsed(plain), answer(plain, ("www.example.", 60, "A", "192.0.2.1")))

    assert cache.get("", parsed(secure)) is None
    for flag in (dns.flags.CD, dns.flags.AD, dns.flags.RD):
        other = parsed(plain)._replace(flags=parsed(plain).flags ^ flag)
        assert cache.get("", other) is None


def test_names_that_only_look_alike_are_kept_apart(cache: Cache) -> None:
    dot, backslash = query("a\\.b.example"), query("a\\\\.b.example")
    cache.put("", parsed(dot), answer(dot, ("x.example.", 60, "A", "192.0.2.1")))

    assert cache.get("", parsed(backslash)) is None


def test_answers_of_other_servers_are_kept_apart(cache: Cache) -> None:
    cache.put("box", parsed(ASKED), ANSWER)

    assert cache.get("", parsed(ASKED)) is None
    assert cache.get("box", parsed(ASKED)) is not None
    cache.forget("box")
    assert cache.get("box", parsed(ASKED)) is None


@pytest.mark.parametrize("rcode", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
def test_that_there_is_nothing_is_kept_for_as_long_as_the_zone_says(
    cache: Cache, clock: Clock, rcode: int
) -> None:
    cache.put("", parsed(ASKED), answer(ASKED, rcode=rcode, soa=SOA))

    clock.now += 119
    assert cache.get("", parsed(ASKED)) is not None
    clock.now += 2
    assert cache.get("", parsed(ASKED)) is None


def test_that_an_alias_leads_nowhere_is_kept_for_as_long_as_the_zone_says(cache: Cache, clock: Clock) -> None:
    made = answer(ASKED, ("www.example.", 900, "CNAME", "a.example."), soa=SOA)
    cache.put("", parsed(ASKED), made)

    clock.now += 121
    assert cache.get("", parsed(ASKED)) is None


def test_that_there_is_nothing_is_kept_no_longer_than_the_alias_to_it(cache: Cache, clock: Clock) -> None:
    made = answer(ASKED, ("www.example.", 5, "CNAME", "a."), rcode=dns.rcode.NXDOMAIN, soa=SOA)
    cache.put("", parsed(ASKED), made)

    clock.now += 6
    assert cache.get("", parsed(ASKED)) is None


def test_that_there_is_nothing_is_kept_for_five_minutes_at_most(cache: Cache, clock: Clock) -> None:
    cache.put("", parsed(ASKED), answer(ASKED, rcode=dns.rcode.NXDOMAIN, soa=SOA.replace("120", "86400")))

    clock.now += 299
    assert cache.get("", parsed(ASKED)) is not None
    clock.now += 2
    assert cache.get("", parsed(ASKED)) is None


@pytest.mark.parametrize(
    "useless",
    [
        answer(ASKED, ("www.example.", 0, "A", "192.0.2.1")),
        answer(ASKED, ("www.example.", 77, "A", "192.0.2.1")).replace(
            bytes((0, 0, 0, 77)), bytes((128, 0, 0, 77))
        ),
        answer(ASKED, *(("www.example.", 60, "TXT", "x" * 200) for _ in range(20))),
        answer(ASKED, ("www.example.", 60, "A", "192.0.2.1"), flags=dns.flags.TC),
        answer(ASKED, rcode=dns.rcode.SERVFAIL),
        answer(ASKED, rcode=dns.rcode.REFUSED),
        answer(ASKED, rcode=dns.rcode.NXDOMAIN),
        ANSWER[:-3],
        wire.failure(ASKED, wire.SERVFAIL)[:12],
    ],
    ids=[
        "ttl 0",
        "ttl with its first bit",
        "long",
        "truncated",
        "SERVFAIL",
        "REFUSED",
        "no SOA",
        "broken off",
        "a header",
    ],
)
def test_what_says_so_or_is_no_whole_answer_is_not_kept(cache: Cache, useless: bytes) -> None:
    cache.put("", parsed(ASKED), useless)

    assert len(cache) == 0


def test_the_one_that_was_not_used_for_longest_goes_first(cache: Cache) -> None:
    names = [query(f"{n}.example") for n in range(4)]
    for asked in names[:3]:
        cache.put("", parsed(asked), answer(asked, ("x.example.", 60, "A", "192.0.2.1")))
    cache.get("", parsed(names[0]))
    asked = names[3]
    cache.put("", parsed(asked), answer(asked, ("x.example.", 60, "A", "192.0.2.1")))

    assert [cache.get("", parsed(asked)) is not None for asked in names] == [True, False, True, True]
