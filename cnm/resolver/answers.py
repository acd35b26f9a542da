"""What one scope is answered: from what is known, in ready-made bytes where the same was asked before."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import NamedTuple

from cnm.resolver import wire
from cnm.resolver.records import Book, Found, Scope
from cnm.resolver.wire import EMPTY, Answer, Query

TTL = 600
"""Seconds; Docker's."""
_MOST_READY = 4096
_MOST_ORDERS = 16
"""In which the addresses of a name are told in turn."""
_MOST_ALIASES = 8
_REVERSE = (".in-addr.arpa", ".ip6.arpa")


class Forward(NamedTuple):
    """A query that others are to answer."""

    query: bytes
    """What they are asked; its id does not matter."""
    parsed: Query
    """The client's."""
    aliases: Answer = EMPTY
    """What our answer begins with: others were asked for the name that the client's stands for."""

    @property
    def limit(self) -> int:
        """Bytes of an answer over UDP."""
        return self.parsed.limit

    @property
    def asked(self) -> Query:
        """What others are asked, read."""
        if not self.aliases.number:
            return self.parsed
        read = wire.read_query(self.query)
        assert isinstance(read, Query)
        return read

    def finished(self, client: bytes, answer: bytes) -> bytes:
        """The answer to `client`, the query as it came, from others' answer to `query`."""
        if not self.aliases.number:
            return client[:2] + answer[2:]
        try:
            records, count = wire.expanded(answer)
        except wire.Malformed:
            return wire.failure(client, wire.SERVFAIL)
        whole = Answer(self.aliases.records + records, self.aliases.number + count)
        return client[:2] + wire.build(self.parsed, whole, wire.rcode(answer))


Outcome = bytes | Forward | None
"""An answer, what is to be forwarded, or silence."""


class Answers:
    """Of one scope of a book. `forget` when what the scope sees has changed."""

    def __init__(self, book: Book, scope: str) -> None:
        self._book = book
        self._scope = scope
        self._ready: tuple[dict[bytes, Callable[[], bytes]], dict[bytes, Callable[[], bytes]]] = ({}, {})
        """For (TCP, UDP): the next answer, without its id, by the query without its id."""

    def forget(self) -> None:
        for each in self._ready:
            each.clear()

    def answer(self, query: bytes, udp: bool) -> Outcome:
        ready = self._ready[udp].get(query[2:])
        if ready is not None:
            return query[:2] + ready()
        return self._answered(query, udp)

    def _answered(self, query: bytes, udp: bool) -> Outcome:
        parsed = wire.read_query(query)
        if parsed is None:
            return None
        if isinstance(parsed, int):
            return wire.failure(query, parsed)
        made = self._made(parsed, query)
        if isinstance(made, Forward):
            return made
        limit = parsed.limit if udp else wire.MOST
        tails = [wire.build(parsed, answer, rcode, limit) for answer, rcode in made]
        turn = cycle(tails).__next__
        if parsed.edns is None or not parsed.edns.options:
            if len(self._ready[udp]) >= _MOST_READY:
                self._ready[udp].clear()
            self._ready[udp][query[2:]] = turn
        return query[:2] + turn()

    def _made(self, query: Query, raw: bytes) -> Forward | Sequence[tuple[Answer, int]]:
        """Answers with their RCODE, to be told in turn."""
        question = query.question
        if query.edns and query.edns.version:
            return _only(wire.BADVERS)
        if question.klass not in (wire.IN, wire.ANY) or question.type in (wire.AXFR, wire.IXFR):
            return _only(wire.REFUSED)
        scope = self._book.scope(self._scope)
        if question.type == wire.PTR and question.name.endswith(_REVERSE):
            return self._reverse(scope, query, raw)
        found = self._book.find(self._scope, question.name)
        if found is not None:
            return self._known(scope, query, found)
        if question.type == wire.SRV and (service := self._service(question.name)) is not None:
            return service
        return _unknown(scope, query, raw)

    def _known(self, scope: Scope, query: Query, found: Found) -> Forward | Sequence[tuple[Answer, int]]:
        if not found.alias:
            return [
                (answer, wire.NOERROR) for answer in _orders(found, query.question.type, wire.TO_QUESTION)
            ]
        try:
            return self._through_aliases(scope, query, found.alias)
        except wire.Malformed:
            return _only(wire.SERVFAIL)

    def _through_aliases(
        self, scope: Scope, query: Query, alias: str
    ) -> Forward | Sequence[tuple[Answer, int]]:
        """CNAMEs up to where there are addresses, or to where others must be asked."""
        told = wire.record(wire.TO_QUESTION, wire.CNAME, TTL, wire.pack_name(alias))
        begun = Answer(told, 1)
        if query.question.type == wire.CNAME:
            return [(begun, wire.NOERROR)]
        for _ in range(_MOST_ALIASES):
            found = self._book.find(self._scope, alias)
            owner = wire.pack_name(alias)
            if found is None and scope.everywhere:
                return [(begun, wire.NOERROR)]
            if found is None:
                return Forward(wire.ask(alias, query.question.type, query), query, begun)
            if not found.alias:
                return [
                    (Answer(begun.records + answer.records, begun.number + answer.number), wire.NOERROR)
                    for answer in _orders(found, query.question.type, owner)
                ]
            alias = found.alias
            told = wire.record(owner, wire.CNAME, TTL, wire.pack_name(alias))
            begun = Answer(begun.records + told, begun.number + 1)
        raise wire.Malformed("aliases without an end")

    def _reverse(self, scope: Scope, query: Query, raw: bytes) -> Forward | Sequence[tuple[Answer, int]]:
        address = _address(query.question.name)
        name = self._book.name_of(self._scope, address) if address else ""
        if not name:
            return _unknown(scope, query, raw)
        try:
            told = wire.record(wire.TO_QUESTION, wire.PTR, TTL, wire.pack_name(name))
        except wire.Malformed:
            return _only(wire.SERVFAIL)
        return [(Answer(told, 1), wire.NOERROR)]

    def _service(self, name: str) -> Sequence[tuple[Answer, int]] | None:
        """_PORT._PROTOCOL.NAME: where NAME is reached, on the port that was asked for."""
        port, protocol, target = (*name.split(".", 2), "", "")[:3]
        if not (port[:1] == "_" and port[1:].isdecimal() and protocol in ("_tcp", "_udp", "_sctp")):
            return None
        found = self._book.find(self._scope, target)
        if found is None or found.alias or not 0 < int(port[1:]) < 65536:
            return None
        packed = wire.pack_name(target)
        data = b"\0\0\0\0" + int(port[1:]).to_bytes(2) + packed
        told = wire.record(wire.TO_QUESTION, wire.SRV, TTL, data)
        addresses = _orders(found, wire.ANY, packed)[0]
        return [(Answer(told, 1, addresses.records, addresses.number), wire.NOERROR)]


def _only(rcode: int) -> Sequence[tuple[Answer, int]]:
    return [(EMPTY, rcode)]


def _unknown(scope: Scope, query: Query, raw: bytes) -> Forward | Sequence[tuple[Answer, int]]:
    if scope.everywhere:
        return _only(wire.REFUSED)
    if scope.ndots > 0 and "." not in query.question.name and query.question.type in (wire.A, wire.AAAA):
        return _only(wire.NOERROR)  # Docker's rule: what has no dot is a name of ours, or of nobody
    return Forward(raw, query)


def _orders(found: Found, kind: int, owner: bytes) -> list[Answer]:
    """The addresses that were asked for, each time beginning with another; none for any other type."""
    ipv4 = [(wire.A, address) for address in found.ipv4] if kind in (wire.A, wire.ANY) else []
    ipv6 = [(wire.AAAA, address) for address in found.ipv6] if kind in (wire.AAAA, wire.ANY) else []
    records = [wire.record(owner, kind, TTL, address) for kind, address in (*ipv4, *ipv6)]
    if not records:
        return [EMPTY]
    starts = random.sample(range(len(records)), min(len(records), _MOST_ORDERS))
    return [Answer(b"".join(records[start:] + records[:start]), len(records)) for start in starts]


def _address(name: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa is for, "" for none."""
    labels = name.split(".")[:-2][::-1]
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 4:
            return str(ipaddress.IPv4Address(".".join(labels)))
        if len(labels) == 32:
            return str(ipaddress.IPv6Address(bytes.fromhex("".join(labels))))
    except ValueError:
        return ""
    return ""
