"""What one scope is answered: from what is known, in ready-made bytes where the same was asked before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from itertools import cycle
from typing import NamedTuple

from cnm.resolver import wire
from cnm.resolver.records import Book, Found, Scope
from cnm.resolver.wire import Answer, Query, Question

TTL = 600
"""Seconds; Docker's."""
_MOST_READY_BYTES = 1 << 21
"""Of a scope's ready-made answers, about: beyond, all are made anew."""
_BYTES_OF_EACH = 256
"""That an answer takes beside its content, about."""
_MOST_ORDERS = 64
"""Addresses of a name whose orders are kept; with more, each answer is put together when it is told."""
_MOST_ALIASES = 8
_REVERSE = (".in-addr.arpa", ".ip6.arpa")
_PROTOCOLS = ("_tcp", "_udp", "_sctp")


class Told(NamedTuple):
    """What a question is answered with; the default is a known name without such records."""

    rcode: int = wire.NOERROR
    aliases: tuple[bytes, ...] = ()
    """CNAMEs, which come first."""
    addresses: Sequence[bytes] = ()
    """In each answer another one comes first."""
    records: tuple[bytes, ...] = ()
    additional: Sequence[bytes] = ()


class Forward(NamedTuple):
    """A query that others are to answer."""

    query: bytes
    """What they are asked; its id does not matter."""
    parsed: Query
    """The client's."""
    aliases: tuple[bytes, ...] = ()
    """CNAMEs that our answer begins with: others were asked for the name that the client's stands for."""

    @property
    def limit(self) -> int:
        """Bytes of an answer over UDP."""
        return self.parsed.limit

    @property
    def asked(self) -> Query:
        """What others are asked, read."""
        if not self.aliases:
            return self.parsed
        read = wire.read_query(self.query)
        assert isinstance(read, Query)
        return read

    def finished(self, client: bytes, answer: bytes) -> bytes:
        """The answer to `client`, the query as it came, from others' answer to `query`."""
        if not self.aliases:
            return client[:2] + answer[2:]
        try:
            theirs = wire.expanded(answer)
        except wire.Malformed:
            return wire.failure(client, wire.SERVFAIL)
        return client[:2] + wire.build(self.parsed, Answer([*self.aliases, *theirs]), wire.rcode(answer))


Outcome = bytes | Forward | None
"""An answer, what is to be forwarded, or silence."""


class Answers:
    """Of one scope of a book."""

    def __init__(self, book: Book, scope: str) -> None:
        self._book = book
        self._scope = scope
        self._ready: tuple[dict[bytes, Callable[[], bytes]], dict[bytes, Callable[[], bytes]]] = ({}, {})
        """For (TCP, UDP): the next answer, without its id, by the query without its id and without options of EDNS."""
        self._ready_bytes = 0
        self._version = -1
        self._stamp: tuple[int, ...] = ()
        """Of what the ready-made answers were made from."""

    def answer(self, query: bytes, udp: bool) -> Outcome:
        if self._version != self._book.version:
            self._look_whether_changed()
        ready = self._ready[udp].get(query[2:])
        if ready is not None:
            return query[:2] + ready()
        return self._answered(query, udp)

    def _look_whether_changed(self) -> None:
        self._version = self._book.version
        stamp = self._book.stamp(self._scope)
        if stamp != self._stamp:
            self._stamp = stamp
            self._forget()

    def _forget(self) -> None:
        self._ready_bytes = 0
        for each in self._ready:
            each.clear()

    def _answered(self, query: bytes, udp: bool) -> Outcome:
        parsed = wire.read_query(query)
        if parsed is None:
            return None
        if isinstance(parsed, int):
            return wire.failure(query, parsed)
        plain = wire.without_options(query, parsed)
        if (ready := self._ready[udp].get(plain)) is not None:
            return query[:2] + ready()
        told = self._told(parsed, query)
        if isinstance(told, Forward):
            return told
        turn = _in_turn(parsed, told, parsed.limit if udp else wire.MOST).__next__
        is_elsewhere = told.rcode == wire.NXDOMAIN  # the scope's stamp says nothing of what it does not see
        if not is_elsewhere:
            self._keep(plain, udp, turn, told)
        return query[:2] + turn()

    def _keep(self, plain: bytes, udp: bool, turn: Callable[[], bytes], told: Told) -> None:
        size = len(plain) + _size(told)
        if self._ready_bytes + size > _MOST_READY_BYTES:
            self._forget()
        self._ready_bytes += size
        self._ready[udp][plain] = turn

    def _told(self, query: Query, raw: bytes) -> Told | Forward:
        question = query.question
        if query.edns and query.edns.version:
            return Told(wire.BADVERS)
        if question.klass not in (wire.IN, wire.ANY) or question.type in (wire.AXFR, wire.IXFR):
            return Told(wire.REFUSED)
        scope = self._book.scope(self._scope)
        if question.type == wire.PTR and question.name.endswith(_REVERSE):
            return self._reverse(question.name) or self._unknown(scope, query, raw)
        if question.type == wire.SRV and (service := self._service(query)):
            return service
        found = self._book.find(self._scope, question.name)
        if found is None:
            return self._unknown(scope, query, raw)
        if not found.alias:
            return Told(addresses=_addresses(found, question.type, wire.TO_QUESTION))
        try:
            return self._through_aliases(scope, query, found.alias)
        except wire.Malformed:
            return Told(wire.SERVFAIL)

    def _through_aliases(self, scope: Scope, query: Query, alias: str) -> Told | Forward:
        """CNAMEs up to where there are addresses, or to where others must be asked. Raises Malformed."""
        kind, owner = query.question.type, wire.TO_QUESTION
        aliases: tuple[bytes, ...] = ()
        while len(aliases) < _MOST_ALIASES:
            target = wire.pack_name(alias)
            aliases = (*aliases, wire.record(owner, wire.CNAME, TTL, target))
            if kind == wire.CNAME:
                return Told(aliases=aliases)
            found = self._book.find(self._scope, alias)
            if found is None and scope.alone:
                return Told(aliases=aliases)
            if found is None:
                return Forward(wire.ask(alias, kind, query), query, aliases)
            if not found.alias:
                return Told(aliases=aliases, addresses=_addresses(found, kind, target))
            owner, alias = target, found.alias
        raise wire.Malformed("aliases without an end")

    def _reverse(self, name: str) -> Told | None:
        """Who has an address; None where nobody has."""
        address = _address(name)
        name = self._book.name_of(self._scope, address) if address else ""
        if not name:
            return None
        try:
            return Told(records=(wire.record(wire.TO_QUESTION, wire.PTR, TTL, wire.pack_name(name)),))
        except wire.Malformed:
            return Told(wire.SERVFAIL)

    def _service(self, query: Query) -> Told | None:
        """_PORT._PROTOCOL.NAME: where NAME is reached, on the port that was asked for (RFC 2782)."""
        port, protocol, name = (*query.question.name.split(".", 2), "", "")[:3]
        number = int(port[1:]) if port[:1] == "_" and port.isascii() and port[1:].isdecimal() else 0
        if not 0 < number < 65536 or protocol not in _PROTOCOLS:
            return None
        found = self._book.find(self._scope, name)
        if found is None or found.alias:
            return None
        target = query.question.packed[2 + len(port) + len(protocol) :]
        data = b"\0\0\0\0" + number.to_bytes(2) + target
        service = wire.record(wire.TO_QUESTION, wire.SRV, TTL, data)
        return Told(records=(service,), additional=_addresses(found, wire.ANY, target))

    def _unknown(self, scope: Scope, query: Query, raw: bytes) -> Told | Forward:
        if scope.alone:
            return Told(wire.REFUSED)
        if scope.ndots > 0 and "." not in query.question.name and query.question.type in (wire.A, wire.AAAA):
            return Told()  # Docker's rule: what has no dot is a name of ours, or of nobody
        if not scope.servers and self._is_elsewhere(query.question):
            return Told(wire.NXDOMAIN)
        return Forward(raw, query)

    def _is_elsewhere(self, question: Question) -> bool:
        """A name on a network that the scope is not on: the host's server may be systemd-resolved, which asks us as
        the host, who knows all networks."""
        name = question.name.split(".", 2)[-1] if question.type == wire.SRV else question.name
        return self._book.is_known_to_host(name)


def _addresses(found: Found, kind: int, owner: bytes) -> list[bytes]:
    """Records of the addresses that were asked for; none for any other type."""
    ipv4 = wire.rrset(owner, wire.A, TTL, found.ipv4) if kind in (wire.A, wire.ANY) else []
    ipv6 = wire.rrset(owner, wire.AAAA, TTL, found.ipv6) if kind in (wire.AAAA, wire.ANY) else []
    return ipv4 + ipv6


def _in_turn(query: Query, told: Told, limit: int) -> Iterator[bytes]:
    """Answers without an end, in which each address is the first equally often."""
    number = len(told.addresses)

    def built(addresses: Sequence[bytes]) -> bytes:
        records = (*told.aliases, *addresses, *told.records)
        return wire.build(query, Answer(records, told.additional), told.rcode, limit)

    if number < 2:
        return cycle([built(told.addresses)])
    if number <= _MOST_ORDERS:
        firsts = random.sample(range(number), number)
        return cycle(built(_shuffled_behind(told.addresses, first)) for first in firsts)
    begin = random.randrange(number)
    ring = [*told.addresses[begin:], *told.addresses[:begin]] * 2
    return (built(ring[first : first + number]) for first in cycle(range(number)))


def _shuffled_behind(addresses: Sequence[bytes], first: int) -> Sequence[bytes]:
    """So that whoever cannot reach the first one does not always go to the same next."""
    others = [*addresses[:first], *addresses[first + 1 :]]
    return [addresses[first], *random.sample(others, len(others))]


def _size(told: Told) -> int:
    """Bytes that answers with this take, about: all orders of a few addresses, else the addresses alone."""
    number = len(told.addresses)
    once = _BYTES_OF_EACH + sum(map(len, (*told.aliases, *told.addresses, *told.records, *told.additional)))
    return once * (number or 1) if number <= _MOST_ORDERS else once * 4


def _address(name: str) -> bytes:
    """The address, packed, that a name below in-addr.arpa or ip6.arpa is for; empty for none."""
    labels = name.split(".")[:-2][::-1]
    try:
        if name.endswith(".in-addr.arpa"):
            return IPv4Address(".".join(labels)).packed
        return bytes.fromhex("".join(labels)) if [len(label) for label in labels] == [1] * 32 else b""
    except ValueError:
        return b""
