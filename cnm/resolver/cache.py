"""Other people's answers, kept for as long as they say; bounded, the oldest go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from cnm.resolver import wire
from cnm.resolver.wire import Query

_MOST = 4096
_MOST_BYTES = 4096
"""Of an answer: longer ones are rare, and would make the cache as large as strangers like."""
_LONGEST_SECONDS = 86_400
_LONGEST_NEGATIVE_SECONDS = 300


class _Kept(NamedTuple):
    message: bytes
    lifetimes: list[tuple[int, int]]
    since: float
    until: float


_Key = tuple[str, str, int, int, int, bool, bool]


class Cache:
    """`clock` gives seconds that never run backwards."""

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, where: str, query: Query) -> bytes | None:
        """The answer to an equal question that was asked at the same place; its id is another's."""
        key = _key(where, query)
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._clock()
        if now >= kept.until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        raw = query.question.raw
        aged = wire.aged(kept.message, kept.lifetimes, int(now - kept.since))
        return aged[:12] + raw + aged[12 + len(raw) :]

    def put(self, where: str, query: Query, answer: bytes) -> None:
        """Unless it is not to be kept: a failure, half of one, or what says so itself."""
        seconds = _seconds(answer)
        if seconds <= 0 or answer[4:6] != b"\0\1":
            return
        now = self._clock()
        key = _key(where, query)
        self._kept[key] = _Kept(answer, wire.lifetimes(answer), now, now + seconds)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def forget(self, where: str) -> None:
        for key in [key for key in self._kept if key[0] == where]:
            del self._kept[key]


def _key(where: str, query: Query) -> _Key:
    question, edns = query.question, query.edns
    return (
        where,
        question.name,
        question.type,
        question.klass,
        query.flags & wire.ASKED_FOR,
        edns is not None,
        edns is not None and edns.dnssec,
    )


def _seconds(answer: bytes) -> int:
    """For how long it may be kept; 0 for not at all."""
    if len(answer) > _MOST_BYTES or wire.is_truncated(answer):
        return 0
    if wire.rcode(answer) not in (wire.NOERROR, wire.NXDOMAIN):
        return 0
    try:
        shortest = min([_LONGEST_SECONDS, *(ttl for _offset, ttl in wire.lifetimes(answer))])
        negative = wire.negative_lifetime(answer)
    except wire.Malformed:
        return 0
    if negative is not None:
        return min(shortest, negative, _LONGEST_NEGATIVE_SECONDS)
    is_negative = wire.rcode(answer) == wire.NXDOMAIN or answer[6:8] == b"\0\0"
    return 0 if is_negative else shortest
