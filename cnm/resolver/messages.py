"""What cnmd and the resolver say to each other: one JSON list [verb, id, body] per packet of a SOCK_SEQPACKET socket.

The resolver greets with HELLO. cnmd then tells what there is, at first everything between BEGIN and COMMIT: what is not
told in between is dropped. Every message of cnmd's is answered in its turn by one DONE; LIST first by a HELD for each
scope, with duplicates of its sockets, so that a restarted cnmd gets back what it had opened.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from typing import Any, NamedTuple

VERSION = 2
"""A cnmd that meets another version ends that resolver and starts its own."""

_MOST_WORKERS = 4
LONGEST = 1 << 17
"""Bytes of a packet: all of a zone's own records come in one."""


class Verb(StrEnum):
    """What a message is for, and its body."""

    HELLO = "hello"
    """{"version", "pid", "namespace", "workers"}"""
    BEGIN = "begin"
    COMMIT = "commit"
    ZONE = "zone"
    """The zone's name; the id is the network's."""
    UNZONE = "unzone"
    MEMBER = "member"
    """A `records.Member`, of the zone `id`."""
    UNMEMBER = "unmember"
    """The member's id."""
    RECORDS = "records"
    """All `records.Record` of the zone."""
    SCOPE = "scope"
    """{"scope": a `records.Scope`, "sockets": the names of the descriptors that came along}; a scope that is known
    keeps its sockets where none come."""
    UNSCOPE = "unscope"
    """Answered when its sockets are closed."""
    SETTINGS = "settings"
    """A `state.Settings`."""
    LIST = "list"
    HELD = "held"
    """As SCOPE."""
    STATS = "stats"
    """Answered by a DONE whose body has the counters."""
    END = "end"
    DONE = "done"
    """{"error": one lower-case clause, "" when it is done; "stats"}"""


class Message(NamedTuple):
    """One message; `id` and `body` as its verb has them."""

    verb: Verb
    id: str = ""
    body: Any = None

    def encode(self) -> bytes:
        """Raises ValueError for a message that no packet can carry."""
        packet = json.dumps(self).encode()
        if len(packet) > LONGEST:
            raise ValueError(f"a message of {len(packet)} bytes is too long")
        return packet

    @classmethod
    def decode(cls, packet: bytes) -> Message:
        """Raises ValueError for anything that is not a message."""
        try:
            verb, ident, body = json.loads(packet)
            if not isinstance(ident, str):
                raise ValueError("the id is no text")
            return cls(Verb(verb), ident, body)
        except (ValueError, TypeError) as error:
            raise ValueError(f"not a message: {packet[:80]!r}: {error}") from None


def default_workers() -> int:
    """One for each processor, within reason."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def control_path(run_dir: str) -> str:
    return os.path.join(run_dir, "resolver.sock")
