"""The endpoints of one network on other hosts: what is known of them, and what a change means for the kernel.

Two endpoints with one address exist only where somebody does not keep the rules, or is not who he was: this host's own
counts, and of others' the one that was there first.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from cnm.cluster import records
from cnm.cluster.etcd.contract import Event, KeyValue
from cnm.cluster.mirror import differing
from cnm.cluster.records import SharedEndpoint
from cnm.kernel.state import RemotePeer

log = logging.getLogger(__name__)


Heard = tuple[str, tuple[str, ...]]
"""A MAC and the bare addresses at it."""


class Peer(msgspec.Struct, frozen=True, gc=False):
    """An endpoint on another host. There may be a hundred thousand: the collector of cycles does not look at them."""

    node: str
    mac: str
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    since: int
    """The revision that it was created at."""


class Change(NamedTuple):
    """What differs: the kernel's records to take away, then those to add, and endpoints by id (None: gone).

    `heard` is who was spoken of, whatever became of it, this host's own endpoints among them.
    """

    removed: list[RemotePeer]
    added: list[RemotePeer]
    endpoints: dict[str, Peer | None]
    heard: list[Heard]


class Peers:
    """Of one network. `vtep` says where a node's tunnels end, "" where that is not known (yet)."""

    def __init__(self, prefix: str, here: str, vtep: Callable[[str], str]) -> None:
        """`prefix` is that of the endpoints' keys, `here` the name of this host's own node."""
        self._prefix = len(prefix)
        self._here = here
        self._vtep = vtep
        self._ends: dict[str, str] = {}
        """Where nodes' tunnels end, as the kernel was told."""
        self._peers: dict[str, Peer] = {}
        self._on: defaultdict[str, set[str]] = defaultdict(set)
        """Ids of endpoints by their node."""
        self._holders: dict[str, str] = {}
        """Ids of endpoints by address: whose it is."""
        self._own: dict[str, tuple[str, ...]] = {}
        """Addresses of this host's endpoints by id: packets to them never leave it."""
        self._own_addresses: frozenset[str] = frozenset()
        """The same without the ids."""
        self._losers: set[str] = set()
        """Ids of endpoints whose addresses others had first."""

    def __len__(self) -> int:
        return len(self._peers)

    def idents(self) -> list[str]:
        return list(self._peers)

    def all(self) -> dict[str, Peer]:
        """By the endpoints' ids."""
        return dict(self._peers)

    def nodes(self) -> set[str]:
        return set(self._on)

    def reset(self, items: Sequence[KeyValue]) -> Change:
        """Everything that there is: what is known and not in it is gone."""
        return self._follow(items, dict.fromkeys(self._peers), {})

    def change(self, events: Sequence[Event]) -> Change:
        """The last event of a key counts."""
        return self._follow(events, {}, dict(self._own))

    def unlike(self, items: Sequence[KeyValue]) -> dict[str, int]:
        there: dict[str, tuple[Peer | None, int]] = {}
        for item in items:
            node, _, ident = item.key[self._prefix :].partition("/")
            if node != self._here and (peer := _peer(node, item)):
                there[ident] = peer, item.mod_revision
        return differing(there, self._peers)

    def _follow(
        self,
        items: Iterable[KeyValue | Event],
        wanted: dict[str, Peer | None],
        own: dict[str, tuple[str, ...]],
    ) -> Change:
        heard: list[Heard] = []
        for item in items:
            node, _, ident = item.key[self._prefix :].partition("/")
            if item.value is None:
                if node == self._here:
                    own.pop(ident, None)
                elif self._is_of(node, ident, wanted):
                    wanted[ident] = None
            elif shared := _decoded(item.key, item.value):
                addresses = _addresses(shared)
                heard.append((shared.mac, addresses))
                if node == self._here:
                    own[ident] = addresses
                else:
                    wanted[ident] = Peer(
                        sys.intern(node), shared.mac, addresses, shared.names, item.create_revision
                    )
        return self._apply(wanted, own, heard)

    def moved(self, node: str, before: str, after: str) -> Change:
        """A node's tunnels end elsewhere now, or somewhere at all, or nowhere ("")."""
        self._ends[node] = after
        theirs = [
            peer for ident in sorted(self._on.get(node, ())) if self._counts(peer := self._peers[ident])
        ]
        removed = [_record(peer, before) for peer in theirs] if before and not after else []
        return Change(removed, [_record(peer, after) for peer in theirs] if after else [], {}, [])

    def records(self) -> Iterator[RemotePeer]:
        """What the kernel must have now."""
        for ident, peer in self._peers.items():
            vtep = self.end_of(peer.node)
            if vtep and self._holds(ident, peer):
                yield _record(peer, vtep)

    def end_of(self, node: str) -> str:
        """Where a node's tunnels end, "" where that is not known."""
        if node not in self._ends:
            self._ends[node] = self._vtep(node)
        return self._ends[node]

    def _is_of(self, node: str, ident: str, wanted: dict[str, Peer | None]) -> bool:
        """Whether an endpoint's record is that node's: it may have come up elsewhere before it went there."""
        known = wanted.get(ident) or self._peers.get(ident)
        return known is None or known.node == node

    def _apply(
        self, wanted: dict[str, Peer | None], own: dict[str, tuple[str, ...]], heard: list[Heard]
    ) -> Change:
        change = Change([], [], {}, heard)
        if own != self._own:
            self._own = own
            self._own_addresses = frozenset(address for each in own.values() for address in each)
        for ident, peer in wanted.items():
            before = self._peers.get(ident)
            if before != peer:
                change.endpoints[ident] = peer
                self._forget(ident, before, peer, change.removed)
        self._yield_to_own(change.removed)
        again = {ident: self._peers[ident] for ident in self._losers if ident not in change.endpoints}
        self._losers.clear()
        for ident, peer in sorted(again.items(), key=lambda each: each[1].since):
            self._learn(ident, peer, change, level=logging.DEBUG)
        for ident, peer in change.endpoints.items():
            if peer is not None:
                self._learn(ident, peer, change)
        return change

    def _forget(self, ident: str, before: Peer | None, after: Peer | None, removed: list[RemotePeer]) -> None:
        if before is None:
            return
        self._remove(ident, before)
        if not self._holds(ident, before):
            return
        for address in before.addresses:
            self._holders.pop(address, None)
        vtep = self.end_of(before.node)
        if not vtep:
            return
        if after is None or (after.mac, after.addresses) != (before.mac, before.addresses):
            removed.append(_record(before, vtep))

    def _yield_to_own(self, removed: list[RemotePeer]) -> None:
        for address in self._own_addresses & self._holders.keys():
            holder = self._holders.get(address)
            if holder is not None:
                self._yield(holder, self._peers[holder], removed)

    def _learn(self, ident: str, peer: Peer, change: Change, *, level: int = logging.ERROR) -> None:
        """`level`: what is said of a clash, once."""
        for address in peer.addresses:
            if address in self._own_addresses:
                log.log(
                    level,
                    "address %s of this host is claimed by endpoint %s of %s, too: packets stay here",
                    address,
                    ident,
                    peer.node,
                )
                self._put(ident, peer)
                self._losers.add(ident)
                return
            holder = self._holders.get(address)
            if holder is None:
                continue
            other = self._peers[holder]
            first, second = (holder, ident) if other.since <= peer.since else (ident, holder)
            log.log(
                level,
                "address %s is claimed by endpoints %s and %s: the first one has it",
                address,
                first,
                second,
            )
            if first == holder:
                self._put(ident, peer)
                self._losers.add(ident)
                return
            self._yield(holder, other, change.removed)
        self._put(ident, peer)
        for address in peer.addresses:
            self._holders[address] = ident
        if vtep := self.end_of(peer.node):
            change.added.append(_record(peer, vtep))

    def _put(self, ident: str, peer: Peer) -> None:
        self._peers[ident] = peer
        self._on[peer.node].add(ident)

    def _remove(self, ident: str, peer: Peer) -> None:
        del self._peers[ident]
        self._on[peer.node].discard(ident)
        if not self._on[peer.node]:
            del self._on[peer.node]

    def _yield(self, ident: str, peer: Peer, removed: list[RemotePeer]) -> None:
        """An endpoint that came later loses its addresses; it stays known."""
        for address in peer.addresses:
            if self._holders.get(address) == ident:
                del self._holders[address]
        self._losers.add(ident)
        if vtep := self.end_of(peer.node):
            removed.append(_record(peer, vtep))

    def _holds(self, ident: str, peer: Peer) -> bool:
        return all(self._holders.get(address) == ident for address in peer.addresses)

    def _counts(self, peer: Peer) -> bool:
        return any(self._peers.get(self._holders.get(address, "")) is peer for address in peer.addresses)


def _peer(node: str, item: KeyValue) -> Peer | None:
    shared = _decoded(item.key, item.value)
    if shared is None:
        return None
    return Peer(node, shared.mac, _addresses(shared), shared.names, item.create_revision)


def _addresses(shared: SharedEndpoint) -> tuple[str, ...]:
    return tuple(filter(None, (shared.ipv4, shared.ipv6)))


def _decoded(key: str, value: bytes) -> SharedEndpoint | None:
    try:
        return records.decode(value, SharedEndpoint)
    except msgspec.DecodeError as error:
        log.error("%s is no endpoint's record: %s", key, error)
        return None


def _record(peer: Peer, vtep: str) -> RemotePeer:
    return RemotePeer(peer.mac, vtep, peer.addresses)
