"""What became of one TCP or UDP probe, and many probes at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

Address = tuple[str, int]
"""An IP address as text, an IPv4 one never in its IPv6-mapped form, and a port."""

_TRAILER = re.compile(rb" \[saw (\S+) (\d+) at (\S+) (\d+)\]\n\Z")


class Status(Enum):
    """How a probe ended."""

    ANSWERED = "answered"
    """Bytes came back."""
    CLOSED = "closed"
    """TCP: the connection was accepted and then closed or reset without a byte."""
    REFUSED = "refused"
    """A TCP reset or an ICMP "port unreachable" came back."""
    UNREACHABLE = "unreachable"
    """There is no route, the neighbour does not resolve, or an ICMP error came back."""
    TIMEOUT = "timeout"
    """Nothing came back in time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one probe; `local` and `peer` are the two addresses as the prober saw them."""

    status: Status
    payload: bytes = b""
    """What was answered, without the trailer in which a server of this package says whom it saw."""
    local: Address | None = None
    peer: Address | None = None
    seen: Address | None = None
    """The client's address as the server saw it: after any source NAT."""
    served: Address | None = None
    """The server's own address, as the packets had it on arrival: after any destination NAT."""
    error: str = ""
    """The system's words where there are any ("No route to host")."""

    @property
    def answered(self) -> bool:
        """Whether anything came back from the other side's application."""
        return self.status is Status.ANSWERED


def answer(payload: bytes, seen: Address, served: Address) -> bytes:
    """The bytes by which a server of this package answers a client."""
    trailer = f" [saw {seen[0]} {seen[1]} at {served[0]} {served[1]}]\n"
    return payload + trailer.encode()


def is_complete(received: bytes) -> bool:
    """Whether the bytes end in the trailer of a server of this package."""
    return _TRAILER.search(received) is not None


def outcome_of(received: bytes, local: Address, peer: Address) -> Outcome:
    """The outcome of a probe that was answered by these bytes, with or without a trailer."""
    found = _TRAILER.search(received)
    if found is None:
        return Outcome(Status.ANSWERED, received, local, peer)
    seen = (found[1].decode(), int(found[2]))
    served = (found[3].decode(), int(found[4]))
    return Outcome(Status.ANSWERED, received[: found.start()], local, peer, seen, served)


def probe_all(probes: Iterable[Callable[[], T]], workers: int = 64) -> list[T]:
    """Run probes in parallel threads and return their outcomes in order; the first error is raised.

    More workers help where most probes wait for a timeout; where most are answered they only slow each other.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(lambda probe: probe(), probes))
