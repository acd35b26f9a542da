"""DNS messages: queries read, answers built, other people's answers checked. RFC 1035, 6891 (EDNS), 2308 (negative).

Nothing here raises for what a stranger sent, but `Malformed` where it says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, MX, AAAA, SRV, DNAME, OPT = 1, 2, 5, 6, 12, 15, 28, 33, 39, 41
IXFR, AXFR, ANY = 251, 252, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
BADVERS = 16

OUR_SIZE = 1232
"""What we say that we can receive: never fragmented (dnsflagday.net)."""
_LEAST_SIZE, _MOST_SIZE = 512, 4096
"""Of an answer over UDP, whatever the query says."""
MOST = 65535

_HEADER = struct.Struct(">6H")
_HEADER_BYTES = 12
_QR, _AA, _TC, _RD, _RA, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_OPCODE = 0x7800
_DO = 0x8000
_FIXED = struct.Struct(">HHIH")  # type, class, TTL, length of a resource record
_TYPE_CLASS = struct.Struct(">HH")
_LONGEST_LABEL, _LONGEST_NAME = 63, 255
_MOST_POINTERS = 64
TO_QUESTION = b"\xc0\x0c"
"""A name that is the question's: a pointer behind the header."""

_NAMES_IN_DATA = {NS: 0, CNAME: 0, PTR: 0, DNAME: 0, MX: 2}
"""Types whose data is a name, behind so many bytes; it may be compressed."""


class Malformed(ValueError):
    """What is no message, or no name."""


class Question(NamedTuple):
    name: str
    """Lower case, without a trailing dot; "" for the root."""
    type: int
    klass: int
    raw: bytes
    """As it was asked."""


class Edns(NamedTuple):
    size: int
    version: int
    dnssec: bool
    """The DO bit."""
    options: bool
    """It has options, which we pass over."""


class Query(NamedTuple):
    flags: int
    question: Question
    edns: Edns | None

    @property
    def limit(self) -> int:
        """Bytes of an answer over UDP."""
        return min(max(self.edns.size, _LEAST_SIZE), _MOST_SIZE) if self.edns else _LEAST_SIZE


def read_query(data: bytes) -> Query | int | None:
    """The query; an RCODE for one that is refused; None for what is not worth an answer."""
    if len(data) < _HEADER_BYTES:
        return None
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        return None
    if flags & _OPCODE:
        return NOTIMP
    if (questions, answers, authorities) != (1, 0, 0):
        return FORMERR
    try:
        question, offset = _read_question(data)
        edns, end = _read_additional(data, offset, additional)
    except Malformed:
        return FORMERR
    return Query(flags, question, edns) if end == len(data) else FORMERR


def _read_question(data: bytes) -> tuple[Question, int]:
    labels, offset = [], _HEADER_BYTES
    while True:
        if offset >= len(data):
            raise Malformed("a name breaks off")
        length = data[offset]
        if length == 0:
            break
        if length > _LONGEST_LABEL:
            raise Malformed("a pointer, where there is nothing to point to")
        labels.append(data[offset + 1 : offset + 1 + length])
        offset += 1 + length
    end = offset + 5
    if end > len(data) or offset + 1 - _HEADER_BYTES > _LONGEST_NAME:
        raise Malformed("a question breaks off, or its name is too long")
    kind, klass = _TYPE_CLASS.unpack_from(data, offset + 1)
    return Question(_text(labels), kind, klass, data[_HEADER_BYTES:end]), end


def _text(labels: Sequence[bytes]) -> str:
    """Bytes that are no ASCII stay what they are; a dot in a label is one of a name that nobody has here."""
    return b".".join(label.replace(b".", b"\\.") for label in labels).lower().decode("latin-1")


def _read_additional(data: bytes, offset: int, count: int) -> tuple[Edns | None, int]:
    edns = None
    for _ in range(count):
        name_end = _skip_name(data, offset)
        kind, klass, ttl, length, start = _fixed(data, name_end)
        if kind == OPT:
            if edns is not None or name_end != offset + 1:
                raise Malformed("EDNS twice, or not at the root")
            edns = Edns(klass, ttl >> 16 & 0xFF, bool(ttl & _DO), length > 0)
        offset = start + length
    return edns, offset


def _fixed(data: bytes, offset: int) -> tuple[int, int, int, int, int]:
    """(type, class, TTL, length, where the data starts) of a record behind its name."""
    start = offset + _FIXED.size
    if start > len(data):
        raise Malformed("a record breaks off")
    kind, klass, ttl, length = _FIXED.unpack_from(data, offset)
    if start + length > len(data):
        raise Malformed("a record's data breaks off")
    return kind, klass, ttl, length, start


def _skip_name(data: bytes, offset: int) -> int:
    """Where a name, maybe a compressed one, ends."""
    while offset < len(data):
        length = data[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            return offset + 2
        if length > _LONGEST_LABEL:
            break
        offset += 1 + length
    raise Malformed("a name breaks off")


# Answers of our own


class Answer(NamedTuple):
    """Records of an answer, ready but for the header."""

    records: bytes = b""
    number: int = 0
    additional: bytes = b""
    additional_number: int = 0


EMPTY = Answer()


def build(query: Query, answer: Answer = EMPTY, rcode: int = NOERROR, limit: int = MOST) -> bytes:
    """An answer without its id, of at most `limit` bytes: what does not fit is left out, and said so (TC)."""
    opt = pack_opt(query.edns, rcode >> 4) if query.edns else b""
    flags = _QR | _RA | (query.flags & (_RD | _CD)) | (rcode & 15)
    raw = query.question.raw
    size = _HEADER_BYTES + len(raw) + len(answer.records) + len(answer.additional) + len(opt)
    if size > limit and answer.additional:
        return build(query, answer._replace(additional=b"", additional_number=0), rcode, limit)
    if size > limit:
        answer, flags = EMPTY, flags | _TC
    counts = (1, answer.number, 0, answer.additional_number + bool(opt))
    head = _HEADER.pack(0, flags, *counts)[2:]
    return b"".join((head, raw, answer.records, answer.additional, opt))


def pack_opt(edns: Edns, extended: int = 0) -> bytes:
    """Our own OPT record; `extended` are the upper bits of the RCODE."""
    return b"\0" + _FIXED.pack(OPT, OUR_SIZE, extended << 24 | (_DO if edns.dnssec else 0), 0)


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    """`owner` is packed, or a pointer."""
    return owner + _FIXED.pack(kind, IN, ttl, len(data)) + data


def pack_name(name: str) -> bytes:
    """Uncompressed. Raises Malformed for a label of more than 63 bytes, or a name of more than 255."""
    packed = bytearray()
    for label in name.split(".") if name else ():
        raw = label.encode("latin-1", "replace")
        if not 0 < len(raw) <= _LONGEST_LABEL:
            raise Malformed(f"{name} is no name of a host")
        packed += bytes((len(raw),)) + raw
    packed.append(0)
    if len(packed) > _LONGEST_NAME:
        raise Malformed(f"{name} is too long")
    return bytes(packed)


def failure(query: bytes, rcode: int) -> bytes:
    """An error as the answer to a query, whole."""
    parsed = read_query(query)
    if isinstance(parsed, Query):
        return query[:2] + build(parsed, rcode=rcode)
    flags = int.from_bytes(query[2:4]) & (_OPCODE | _RD | _CD)
    return query[:2] + _HEADER.pack(0, _QR | _RA | flags | rcode, 0, 0, 0, 0)[2:]


def ask(name: str, kind: int, like: Query) -> bytes:
    """A query for another name, with the flags and the EDNS of a client's; its id is 0. Raises Malformed."""
    opt = pack_opt(like.edns) if like.edns else b""
    raw = pack_name(name) + _TYPE_CLASS.pack(kind, IN)
    return _HEADER.pack(0, like.flags, 1, 0, 0, bool(opt)) + raw + opt


# Answers of others


class Place(NamedTuple):
    """A record within a message: offsets of its parts."""

    section: int
    """1 answers, 2 authorities, 3 additional."""
    owner: int
    type: int
    ttl: int
    data: int
    end: int


def places(message: bytes) -> Iterator[Place]:
    """All records. Raises Malformed."""
    if len(message) < _HEADER_BYTES:
        raise Malformed("no header")
    _, _, questions, *counts = _HEADER.unpack_from(message)
    offset = _HEADER_BYTES
    for _ in range(questions):
        offset = _skip_name(message, offset) + 4
    for section, count in enumerate(counts, 1):
        for _ in range(count):
            name_end = _skip_name(message, offset)
            kind, _klass, _ttl, length, start = _fixed(message, name_end)
            yield Place(section, offset, kind, name_end + 4, start, start + length)
            offset = start + length


def rcode(message: bytes) -> int:
    return message[3] & 15


def is_truncated(message: bytes) -> bool:
    return bool(message[2] & _TC >> 8)


def is_answer_to(message: bytes, query: bytes) -> bool:
    """Id and question are the query's; an error may come without a question."""
    if len(message) < _HEADER_BYTES or message[:2] != query[:2] or not message[2] & 0x80:
        return False
    end = _skip_name(query, _HEADER_BYTES)
    if message[4:6] == b"\0\0":
        return rcode(message) != NOERROR
    same_name = message[_HEADER_BYTES:end].lower() == query[_HEADER_BYTES:end].lower()
    return message[4:6] == b"\0\1" and same_name and message[end : end + 4] == query[end : end + 4]


def truncated(message: bytes, limit: int) -> bytes:
    """The message, which has a header at least, where it fits, else its question and OPT alone, and TC set."""
    if len(message) <= limit:
        return message
    try:
        opt = next((message[p.owner : p.end] for p in places(message) if p.type == OPT), b"")
        end = _skip_name(message, _HEADER_BYTES) + 4
    except Malformed:
        opt, end = b"", _HEADER_BYTES
    ident, flags, questions, *_ = _HEADER.unpack_from(message)
    if not _HEADER_BYTES < end <= len(message) or questions != 1:
        return _HEADER.pack(ident, flags | _TC, 0, 0, 0, 0)
    return _HEADER.pack(ident, flags | _TC, 1, 0, 0, bool(opt)) + message[_HEADER_BYTES:end] + opt


def lifetimes(message: bytes) -> list[tuple[int, int]]:
    """(offset, seconds) of every TTL, OPT's left out: that is none. Raises Malformed."""
    return [(p.ttl, int.from_bytes(message[p.ttl : p.ttl + 4])) for p in places(message) if p.type != OPT]


def aged(message: bytes, ttls: Sequence[tuple[int, int]], seconds: int) -> bytes:
    """The message as it is so many seconds later."""
    later = bytearray(message)
    for offset, ttl in ttls:
        later[offset : offset + 4] = max(ttl - seconds, 0).to_bytes(4)
    return bytes(later)


def negative_lifetime(message: bytes) -> int:
    """For how many seconds "no such name" or "no such record" holds (RFC 2308, 5); 0 where it does not say."""
    for place in places(message):
        if place.section == 2 and place.type == SOA and place.end - place.data >= 22:
            ttl = int.from_bytes(message[place.ttl : place.ttl + 4])
            return min(ttl, int.from_bytes(message[place.end - 4 : place.end]))
    return 0


def expanded(message: bytes) -> tuple[bytes, int]:
    """(the records of the answer section without pointers, their number). Raises Malformed."""
    records, count = [], 0
    for place in places(message):
        if place.section != 1:
            break
        ttl = int.from_bytes(message[place.ttl : place.ttl + 4])
        data = message[place.data : place.end]
        if place.type in _NAMES_IN_DATA:
            before = _NAMES_IN_DATA[place.type]
            data = data[:before] + _expand(message, place.data + before)
        records.append(record(_expand(message, place.owner), place.type, ttl, data))
        count += 1
    return b"".join(records), count


def _expand(message: bytes, offset: int) -> bytes:
    """A name without pointers, packed."""
    labels = bytearray()
    for _ in range(_MOST_POINTERS):
        while offset < len(message) and 0 < message[offset] <= _LONGEST_LABEL:
            labels += message[offset : offset + 1 + message[offset]]
            offset += 1 + message[offset]
        if len(labels) >= _LONGEST_NAME or offset >= len(message):
            break
        if message[offset] == 0:
            return bytes(labels) + b"\0"
        if message[offset] < 0xC0 or offset + 1 >= len(message):
            break
        offset = (message[offset] & 0x3F) << 8 | message[offset + 1]
    raise Malformed("a name leads nowhere")
