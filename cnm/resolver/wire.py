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
_QR, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
ASKED_FOR = _RD | _AD | _CD
"""Flags of a query that others' answers depend on."""
_OPCODE = 0x7800
_DO = 0x8000
_FIXED = struct.Struct(">HHIH")  # type, class, TTL, length of a resource record
_TYPE_CLASS = struct.Struct(">HH")
_LONGEST_LABEL, _LONGEST_NAME = 63, 255
_LONGEST_TTL = 0x7FFFFFFF
_MOST_POINTERS = 64
_SHORTEST_SOA = 22
"""Bytes: two names and five numbers."""
TO_QUESTION = b"\xc0\x0c"
"""A name that is the question's: a pointer behind the header."""

_NAMES_IN_DATA = {
    **{kind: (0, 1) for kind in (NS, CNAME, PTR, DNAME, 3, 4, 7, 8, 9)},  # MD, MF, MB, MG, MR
    **{kind: (0, 2) for kind in (SOA, 14, 17)},  # MINFO, RP
    **{kind: (2, 1) for kind in (MX, 18, 21, 36)},  # AFSDB, RT, KX
    26: (2, 2),  # PX
    SRV: (6, 1),
}
"""Types whose data holds names behind so many bytes, and how many: they may be compressed (RFC 3597, 4)."""


class Malformed(ValueError):
    """What is no message, or no name."""


class Question(NamedTuple):
    name: str
    """Lower case, without a trailing dot; "" for the root. A dot or backslash inside a label has a backslash before."""
    type: int
    klass: int
    raw: bytes
    """As it was asked."""

    @property
    def packed(self) -> bytes:
        """The name as it was asked."""
        return self.raw[: -_TYPE_CLASS.size]


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


def without_options(data: bytes, query: Query) -> bytes:
    """The query, whose bytes are `data`, without its id and without options of EDNS.

    Its answer does not depend on them, and cookies are others in each query.
    """
    if query.edns is None or not query.edns.options:
        return data[2:]
    opt = _FIXED.pack(OPT, query.edns.size, query.edns.version << 16 | (_DO if query.edns.dnssec else 0), 0)
    return data[2:_HEADER_BYTES] + query.question.raw + b"\0" + opt


def _read_question(data: bytes) -> tuple[Question, int]:
    labels, offset = [], _HEADER_BYTES
    while True:
        if offset >= len(data):
            raise Malformed("a name breaks off")
        length = data[offset]
        offset += 1
        if length == 0:
            break
        if length > _LONGEST_LABEL:
            raise Malformed("a pointer, where there is nothing to point to")
        labels.append(data[offset : offset + length])
        offset += length
    end = offset + _TYPE_CLASS.size
    if end > len(data) or offset - _HEADER_BYTES > _LONGEST_NAME:
        raise Malformed("a question breaks off, or its name is too long")
    kind, klass = _TYPE_CLASS.unpack_from(data, offset)
    return Question(_text(labels), kind, klass, data[_HEADER_BYTES:end]), end


def _text(labels: Sequence[bytes]) -> str:
    """Bytes that are no UTF-8 stay what they are. Different names have different texts."""
    joined = b"".join(labels)
    if b"." in joined or b"\\" in joined:
        labels = [label.replace(b"\\", b"\\\\").replace(b".", b"\\.") for label in labels]
    return b".".join(labels).lower().decode("utf-8", "surrogateescape")


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
    """Packed records of an answer."""

    records: Sequence[bytes] = ()
    additional: Sequence[bytes] = ()
    """Of use, but nobody asked for them."""


EMPTY = Answer()


def build(query: Query, answer: Answer = EMPTY, rcode: int = NOERROR, limit: int = MOST) -> bytes:
    """An answer without its id, of at most `limit` bytes.

    Records that do not fit are left out, and said so (TC). As in Docker, the others are there: not all clients ask
    again over TCP.
    """
    raw = query.question.raw
    opt = pack_opt(query.edns, rcode >> 4) if query.edns else b""
    room = limit - _HEADER_BYTES - len(raw) - len(opt)
    records, additional = answer
    flags = _QR | _RA | (query.flags & (_RD | _CD)) | (rcode & 15)
    size = sum(map(len, records))
    if size > room:
        records, flags = _fitting(records, room), flags | _TC
    if additional and size + sum(map(len, additional)) > room:
        additional = ()
    head = _HEADER.pack(0, flags, 1, len(records), 0, len(additional) + bool(opt))[2:]
    return b"".join((head, raw, *records, *additional, opt))


def _fitting(records: Sequence[bytes], room: int) -> Sequence[bytes]:
    """The first ones that do not need more bytes."""
    for number, record in enumerate(records):
        room -= len(record)
        if room < 0:
            return records[:number]
    return records


def pack_opt(edns: Edns, extended: int = 0) -> bytes:
    """Our own OPT record; `extended` are the upper bits of the RCODE."""
    return b"\0" + _FIXED.pack(OPT, OUR_SIZE, extended << 24 | (_DO if edns.dnssec else 0), 0)


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    """`owner` is packed, or a pointer."""
    return owner + _FIXED.pack(kind, IN, ttl, len(data)) + data


def rrset(owner: bytes, kind: int, ttl: int, data: Sequence[bytes]) -> list[bytes]:
    """A record for each of `data`, all of which are of one length."""
    head = record(owner, kind, ttl, data[0])[: -len(data[0])] if data else b""
    return [head + each for each in data]


def pack_name(name: str) -> bytes:
    """Uncompressed; all dots are between labels. Raises Malformed for what is no name: a label that is empty or has
    more than 63 bytes, more than 255 in all."""
    packed = bytearray()
    for label in name.split(".") if name else ():
        try:
            raw = label.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise Malformed(f"{name!r} is no text") from None
        if not 0 < len(raw) <= _LONGEST_LABEL:
            raise Malformed(f"{name!r} is no name of a host")
        packed += bytes((len(raw),)) + raw
    packed.append(0)
    if len(packed) > _LONGEST_NAME:
        raise Malformed(f"{name!r} is too long")
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
    """The message, which has a header at least, where it fits, else its question and OPT alone, and TC set.

    `limit` is 512 or more. The OPT loses its options, which may be of any length.
    """
    if len(message) <= limit:
        return message
    ident, flags, questions, *_ = _HEADER.unpack_from(message)
    opt = b""
    try:
        end = _skip_name(message, _HEADER_BYTES) + _TYPE_CLASS.size
        place = next((place for place in places(message) if place.type == OPT), None)
        if place is not None:
            opt = b"\0" + message[place.ttl - 4 : place.ttl + 4] + b"\0\0"
    except Malformed:
        end = _HEADER_BYTES
    if questions != 1 or end > min(len(message), _HEADER_BYTES + _LONGEST_NAME + _TYPE_CLASS.size):
        end = _HEADER_BYTES
    question = message[_HEADER_BYTES:end]
    return _HEADER.pack(ident, flags | _TC, bool(question), 0, 0, bool(opt)) + question + opt


def lifetimes(message: bytes) -> list[tuple[int, int]]:
    """(offset, seconds) of every TTL, OPT's left out: that is none. Raises Malformed."""
    return [(place.ttl, _ttl(message, place)) for place in places(message) if place.type != OPT]


def _ttl(message: bytes, place: Place) -> int:
    """0 where the first bit is set (RFC 2181, 8)."""
    ttl = int.from_bytes(message[place.ttl : place.ttl + 4])
    return ttl if ttl <= _LONGEST_TTL else 0


def aged(message: bytes, ttls: Sequence[tuple[int, int]], seconds: int) -> bytes:
    """The message as it is so many seconds later."""
    later = bytearray(message)
    for offset, ttl in ttls:
        later[offset : offset + 4] = max(ttl - seconds, 0).to_bytes(4)
    return bytes(later)


def negative_lifetime(message: bytes) -> int | None:
    """For how many seconds "no such name" or "no such record" holds (RFC 2308, 5); None where it does not say.

    Raises Malformed.
    """
    for place in places(message):
        if place.section == 2 and place.type == SOA and place.end - place.data >= _SHORTEST_SOA:
            return min(_ttl(message, place), int.from_bytes(message[place.end - 4 : place.end]))
    return None


def expanded(message: bytes) -> list[bytes]:
    """The records of the answer section without pointers. Raises Malformed, also where no message could hold them."""
    found = []
    size = 0
    for place in places(message):
        if place.section != 1:
            break
        fixed = message[place.ttl - 4 : place.ttl + 4]
        data = _expanded_data(message, place)
        size += place.data - place.owner + len(data)
        if size > MOST:
            raise Malformed("without pointers it is too long")
        found.append(_expand(message, place.owner)[0] + fixed + len(data).to_bytes(2) + data)
    return found


def _expanded_data(message: bytes, place: Place) -> bytes:
    before, names = _NAMES_IN_DATA.get(place.type, (0, 0))
    offset = place.data + before
    expanded = message[place.data : offset]
    for _ in range(names):
        name, offset = _expand(message, offset)
        expanded += name
    if offset > place.end:
        raise Malformed("names reach beyond their record")
    return expanded + message[offset : place.end]


def _expand(message: bytes, offset: int) -> tuple[bytes, int]:
    """(a name without pointers, where it ended before the first of them)."""
    end = _skip_name(message, offset)
    name = bytearray()
    for _ in range(_MOST_POINTERS):
        while offset < len(message) and 0 < message[offset] <= _LONGEST_LABEL:
            name += message[offset : offset + 1 + message[offset]]
            offset += 1 + message[offset]
        if len(name) >= _LONGEST_NAME or offset >= len(message):
            break
        if message[offset] == 0:
            return bytes(name) + b"\0", end
        if message[offset] < 0xC0 or offset + 1 >= len(message):
            break
        offset = (message[offset] & 0x3F) << 8 | message[offset + 1]
    raise Malformed("a name leads nowhere")
