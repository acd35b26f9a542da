"""What a neighbour is, and what is told of it."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """How a neighbour and our networks get along."""

    OPEN = "open"
    """It lets through what our own firewall lets through; our names are found through it."""
    UNUSED = "unused"
    """Nothing is asked of it: there is no network of ours, or the settings want none of it."""
    BLOCKED = "blocked"
    """It drops packets of our networks, or does not find their names, and we cannot change that."""


@dataclass(frozen=True)
class Report:
    """One line of `cnmctl status`; `warnings` say what does not work and what helps."""

    name: str
    state: State
    detail: str
    warnings: tuple[str, ...] = ()
    changed: bool = field(default=False, compare=False)
    """Something was written to come here."""
    failed: bool = field(default=False, compare=False)
    """Something went wrong that may go well later, though nothing shows a change."""


class Neighbour(Protocol):
    """Another program. Called from one thread, never on a request's path; every call may be repeated."""

    in_tables: bool
    """What it offers is in nftables, whose changes are told: it is dealt with whenever one is."""

    def detect(self) -> Hashable | None:
        """What can be seen of it at little cost, equal while it did not change; None where it is not there."""

    def needs(self, bridges: Collection[str]) -> Hashable:
        """What `allow` depends on besides: it is called again when this, or what `detect` says, has changed."""

    def allow(self, bridges: Collection[str]) -> Report | None:
        """Open the place it offers for all our networks, whose bridges are called `bridges` (at least one)."""

    def undo(self, why: str) -> Report | None:
        """Take away what `allow` wrote, by this process or an earlier one; `why` is told."""

    def close(self) -> None: ...
