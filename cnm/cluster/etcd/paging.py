"""Reading everything under a prefix at one revision, in pages."""

from __future__ import annotations

from typing import Any

from cnm.cluster.etcd.calls import Calls
from cnm.cluster.etcd.codec import key_bytes, key_values, range_end
from cnm.cluster.etcd.contract import Compacted, Snapshot
from cnm.cluster.etcd.messages import RANGE

PAGE = 1000
_LONGEST = 8000
"""Each page is twice as long as the one before, up to that: etcd counts all that is left for every page."""
_RESTARTS = 5
"""How often history may be compacted under a reader before it is told."""


def read_all(calls: Calls, prefix: str, stale: bool, page: int = PAGE) -> Snapshot:
    """Raises EtcdError; Compacted, where no read came to its end before its revision was gone."""
    for _ in range(_RESTARTS):
        try:
            return _read(calls, prefix, stale, page)
        except Compacted:
            continue
    return _read(calls, prefix, stale, page)


def _read(calls: Calls, prefix: str, stale: bool, page: int) -> Snapshot:
    """The first page says which revision it is; any member that has it may answer for the others."""
    begin = key_bytes(prefix)
    request = RANGE.request(key=begin or b"\0", range_end=range_end(begin), limit=page, serializable=stale)
    doing = f"list {prefix}"
    answer = calls.ask(RANGE, request, doing, leader=not stale)
    revision, items = answer.header.revision, key_values(answer.kvs)
    request.revision = revision
    while answer.more:
        request.key = answer.kvs[-1].key + b"\0"
        request.limit = min(2 * request.limit, _LONGEST)
        answer = _next_page(calls, request, doing, stale)
        items += key_values(answer.kvs)
    return Snapshot(revision, items)


def _next_page(calls: Calls, request: Any, doing: str, stale: bool) -> Any:
    request.serializable = True
    try:
        return calls.ask(RANGE, request, doing, leader=not stale)
    except Compacted as error:
        if "future" not in str(error):
            raise
    request.serializable = stale  # a member that is behind; who has a leader catches up first
    return calls.ask(RANGE, request, doing, leader=not stale)
