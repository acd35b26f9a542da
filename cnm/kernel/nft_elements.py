"""Set and map elements of our nftables tables, packed into netlink messages and read back from them.

Layouts are those of linux/netfilter/nf_tables.h. All elements of a set have the same one, so what surrounds the
fields is packed once a set.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from cnm.errors import InvalidParameter
from cnm.kernel.netlink import NLA_F_NESTED, NLA_TYPE_MASK, attribute, attributes, nested, text
from cnm.kernel.nft_fields import Field, Record
from cnm.kernel.state import ElementSet, FieldType, FirewallElement

TABLE = "cnm"
"""The name of both our tables."""

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
NEW_ELEMENT = _SUBSYSTEM | 12
GET_ELEMENT = _SUBSYSTEM | 13
DELETE_ELEMENT = _SUBSYSTEM | 14
DESTROY_ELEMENT = _SUBSYSTEM | 30
"""Deletes, and does not mind a missing one; Linux 6.3 and later."""

_FAMILIES = {"inet": 1, "bridge": 7}  # NFPROTO_INET, NFPROTO_BRIDGE
_FAMILY_HEADER = struct.Struct("=BBH")  # struct nfgenmsg

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEMENT = 1
_ELEMENT_KEY, _ELEMENT_DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2

_HEADER = struct.Struct("=HH")
_THREE_HEADERS = struct.Struct("=6H")
_CODE = struct.Struct(">i")

_LONGEST_LIST = 60_000
"""Bytes of elements in one message: the length of an attribute has 16 bits."""

_VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4}
_VERDICT_NAMES = {code: name for name, code in _VERDICTS.items()}


class Message(NamedTuple):
    """One message of a transaction, without its netlink header; `of` is what it is about, in an error's words."""

    kind: int
    flags: int
    payload: bytes
    of: str


def pack(kind: int, flags: int, elements: Iterable[FirewallElement]) -> list[Message]:
    """Messages of `kind` for all elements, those of one set together.

    Raises InvalidParameter for an element that does not fit its set.
    """
    by_set: dict[int, list[FirewallElement]] = {}
    for element in elements:
        by_set.setdefault(id(element.set), []).append(element)
    messages: list[Message] = []
    for of_one_set in by_set.values():
        layout = _layout(of_one_set[0].set)
        packed = layout.pack_keys(of_one_set) if kind != NEW_ELEMENT else layout.pack(of_one_set)
        a_message = _LONGEST_LIST // max(map(len, packed))
        for first in range(0, len(packed), a_message):
            payload = layout.payload(b"".join(packed[first : first + a_message]))
            messages.append(Message(kind, flags, payload, layout.title))
    return messages


def listing(element_set: ElementSet) -> bytes:
    """Payload of a GET_ELEMENT message that dumps the whole set."""
    return _layout(element_set).head


def unpack(element_set: ElementSet, payload: bytes) -> Iterator[FirewallElement]:
    """The elements in one message of a dump of `element_set`."""
    elements = attributes(payload, _FAMILY_HEADER.size).get(_LIST_ELEMENTS, b"")
    return _layout(element_set).unpack(elements)


class _Layout:
    """Packs and unpacks the elements of one set."""

    def __init__(self, element_set: ElementSet) -> None:
        self.set = element_set
        self.title = f"set {element_set.name} of table {element_set.family} {TABLE}"
        names = text(_LIST_TABLE, TABLE) + text(_LIST_SET, element_set.name)
        self.head = _FAMILY_HEADER.pack(_FAMILIES[element_set.family], 0, 0) + names
        self._key = Record(element_set.key)
        self._has_verdict = element_set.value == (FieldType.VERDICT,)
        self._value = Record(element_set.value if not self._has_verdict else ())

    def payload(self, elements: bytes) -> bytes:
        return self.head + attribute(_LIST_ELEMENTS | NLA_F_NESTED, elements)

    def pack_keys(self, elements: Sequence[FirewallElement]) -> list[bytes]:
        around = _wrapping(_ELEMENT_KEY, self._key.size)
        start = _HEADER.pack(4 + len(around) + self._key.padded_size, _LIST_ELEMENT | NLA_F_NESTED) + around
        pack = self._key.pack
        return [start + pack(element.key) for element in elements]

    def pack(self, elements: Sequence[FirewallElement]) -> list[bytes]:
        if not self.set.is_map:
            return self.pack_keys(elements)
        if self._has_verdict:
            return [self._pack_verdict(element) for element in elements]
        key, value = self._key, self._value
        before = _wrapping(_ELEMENT_KEY, key.size)
        between = _wrapping(_ELEMENT_DATA, value.size)
        length = 4 + len(before) + key.padded_size + len(between) + value.padded_size
        before = _HEADER.pack(length, _LIST_ELEMENT | NLA_F_NESTED) + before
        return [before + key.pack(e.key) + between + value.pack(e.value) for e in elements]

    def _pack_verdict(self, element: FirewallElement) -> bytes:
        key = _wrapping(_ELEMENT_KEY, self._key.size) + self._key.pack(element.key)
        verdict = " ".join(map(str, element.value))
        return attribute(_LIST_ELEMENT | NLA_F_NESTED, key + _verdict(verdict))

    def unpack(self, data: bytes) -> Iterator[FirewallElement]:
        """The kernel writes the key first and the data next; each element may end with more that is not ours."""
        key_end = _THREE_HEADERS.size + self._key.padded_size
        unpack_key, unpack_value, value_size = self._key.unpack, self._value.unpack, self._value.size
        offset = 0
        while offset + key_end <= len(data):
            length, _, _, kind, _, _ = _THREE_HEADERS.unpack_from(data, offset)
            if kind & NLA_TYPE_MASK != _ELEMENT_KEY:
                raise ValueError(f"an element of {self.title} does not begin with its key")
            key = unpack_key(data, offset + _THREE_HEADERS.size)
            value: tuple[Field, ...] = ()
            if self._has_verdict:
                value = (_verdict_text(attributes(data[offset + key_end : offset + length])[_ELEMENT_DATA]),)
            elif value_size:
                value = unpack_value(data, offset + key_end + 2 * _HEADER.size)
            yield FirewallElement(self.set, key, value)
            offset += (length + 3) & ~3


_layouts: dict[int, _Layout] = {}


def _layout(element_set: ElementSet) -> _Layout:
    """By identity: hashing a set would cost more than packing an element. A layout keeps its set alive."""
    layout = _layouts.get(id(element_set))
    if layout is None:
        layout = _layouts[id(element_set)] = _Layout(element_set)
    return layout


def _wrapping(kind: int, size: int) -> bytes:
    """The two attribute headers around `size` bytes of key or value."""
    value = 4 + size
    padded = (value + 3) & ~3
    return _HEADER.pack(4 + padded, kind | NLA_F_NESTED) + _HEADER.pack(value, _DATA_VALUE)


@lru_cache(maxsize=64)
def _verdict(words: str) -> bytes:
    name, _, chain = words.partition(" ")
    if name not in _VERDICTS or bool(chain) != (name in ("jump", "goto")):
        raise InvalidParameter(f"{words!r} is not a verdict")
    parts = [attribute(_VERDICT_CODE, _CODE.pack(_VERDICTS[name]))]
    if chain:
        parts.append(text(_VERDICT_CHAIN, chain))
    return nested(_ELEMENT_DATA, nested(_DATA_VERDICT, *parts))


@lru_cache(maxsize=64)
def _verdict_text(data: bytes) -> str:
    verdict = attributes(attributes(data)[_DATA_VERDICT])
    (code,) = _CODE.unpack(verdict[_VERDICT_CODE])
    chain = verdict.get(_VERDICT_CHAIN, b"").rstrip(b"\0").decode()
    return f"{_VERDICT_NAMES.get(code, code)} {chain}".strip()
