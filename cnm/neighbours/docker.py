"""Docker, whose iptables rules drop what they do not forward: our networks are let through in DOCKER-USER.

An accept in our own nftables table does not undo the drop of another table. What our tables drop stays dropped: both
are asked about every packet. Docker's nftables backend has no such policy, so nothing is written for it.

Once placed, the rules stay where they are: whoever inserts rules above ours (`iptables -I DOCKER-USER`, as Docker's
manual has it) means to be asked first. They are placed anew, at the top, when one is missing or out of order.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cnm.errors import CnmError, KernelError
from cnm.kernel.filter_tables import Backend, FilterTable
from cnm.neighbours.docker_user import CHAIN, Listing, by_group, by_name
from cnm.neighbours.neighbour import Report, State

_NAME = "docker"
_NFT_TABLE, _NFT_CHAIN = "docker-bridges", "filter-FORWARD"


class Tables(Protocol):
    """A cheap look: `cnm.kernel.filter_tables.FilterTables`."""

    def look(self, chain: str) -> tuple[FilterTable, ...]: ...

    def has_nft_chain(self, version: int, table: str, chain: str) -> bool: ...

    def close(self) -> None: ...


class Iptables(Protocol):
    """The programs: `cnm.kernel.iptables.HostIptables`."""

    def rules(self, table: FilterTable) -> list[str]: ...

    def change(self, table: FilterTable, commands: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class _Place:
    """What came of one filter table."""

    table: FilterTable
    problem: str = ""
    """Why packets of ours may be dropped there, or our rules are still there; "" where all is well."""
    failed: bool = False
    changed: bool = False
    above: int = 0


_Key = tuple[Backend, int]


class Docker:
    """Implements `cnm.neighbours.neighbour.Neighbour`."""

    in_tables = True

    def __init__(self, tables: Tables, iptables: Iptables) -> None:
        self._tables = tables
        self._iptables = iptables
        self._by_name: set[_Key] = set()
        """Tables in which the match `devgroup` is not to be had."""
        self._read_back: dict[_Key, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """Rules that were placed, and how this version of iptables lists them."""

    def close(self) -> None:
        self._tables.close()

    def detect(self) -> Hashable | None:
        seen = (self._tables.look(CHAIN), self._has_nft_backend())
        return seen if any(seen) else None

    def _has_nft_backend(self) -> bool:
        return any(self._tables.has_nft_chain(version, _NFT_TABLE, _NFT_CHAIN) for version in (4, 6))

    def needs(self, bridges: Collection[str]) -> Hashable:
        return frozenset(bridges) if self._by_name else bool(bridges)

    def allow(self, bridges: Collection[str]) -> Report | None:
        return self._report([self._allow_in(table, bridges) for table in self._tables.look(CHAIN)])

    def undo(self, why: str) -> Report | None:
        places = [self._undo_in(table) for table in self._tables.look(CHAIN) if table.has_chain]
        if not places:
            return Report(_NAME, State.UNUSED, why) if self._has_nft_backend() else None
        return _report(_NAME, State.UNUSED, why, places)

    # One table

    def _allow_in(self, table: FilterTable, bridges: Collection[str]) -> _Place:
        if not table.has_chain:
            return _Place(table, _drops(table, f"has no chain {CHAIN}"))
        try:
            listing = Listing.parse(self._iptables.rules(table))
            changed = self._place(table, listing, bridges)
        except CnmError as error:
            return _Place(table, f"{CHAIN} was not opened: {error}", failed=True)
        unreached = table.forward_drops and not listing.reached
        problem = _drops(table, f"FORWARD does not jump to {CHAIN}") if unreached else ""
        return _Place(table, problem, changed=changed, above=0 if changed else listing.above)

    def _place(self, table: FilterTable, listing: Listing, bridges: Collection[str]) -> bool:
        """False where all was as it should be."""
        key = (table.backend, table.version)
        grouped, named = by_group(listing.docker_bridges), by_name(bridges, listing.docker_bridges)
        wanted = named if key in self._by_name else grouped
        if listing.ours == wanted or (wanted, listing.ours) == self._read_back.get(key):
            return False
        try:
            self._iptables.change(table, listing.placing(wanted))
        except KernelError:
            if wanted is named:
                raise
            wanted = named
            self._iptables.change(table, listing.placing(wanted))
            self._by_name.add(key)
        # Should another iptables word them otherwise, the next look must not take them for damage.
        self._read_back[key] = (wanted, Listing.parse(self._iptables.rules(table)).ours)
        return True

    def _undo_in(self, table: FilterTable) -> _Place:
        try:
            listing = Listing.parse(self._iptables.rules(table))
            if listing.ours:
                self._iptables.change(table, listing.removing())
        except CnmError as error:
            return _Place(table, f"our rules in {CHAIN} were not removed: {error}", failed=True)
        return _Place(table, changed=bool(listing.ours))

    # In words

    def _report(self, places: Sequence[_Place]) -> Report | None:
        if not places:
            detail = "its nftables tables drop nothing of ours"
            return Report(_NAME, State.OPEN, detail) if self._has_nft_backend() else None
        name = _NAME if any(place.table.has_chain for place in places) else "iptables"
        state = State.BLOCKED if any(place.problem for place in places) else State.OPEN
        return _report(name, state, "; ".join(map(_in_words, places)), places)


def _report(name: str, state: State, detail: str, places: Sequence[_Place]) -> Report:
    return Report(
        name,
        state,
        detail,
        warnings=tuple(place.problem for place in places if place.problem),
        changed=any(place.changed for place in places),
        failed=any(place.failed for place in places),
    )


def _drops(table: FilterTable, why: str) -> str:
    return (
        f"{table.program} drops by the policy of FORWARD and {why}: IPv{table.version} of our networks passes only "
        "where your own rules accept it (docs/firewall.md)"
    )


def _in_words(place: _Place) -> str:
    if place.problem:
        return f"{place.table.program} blocks"
    above = f", below {place.above} of others" if place.above else ""
    return f"{CHAIN} of {place.table.program}{above}"
