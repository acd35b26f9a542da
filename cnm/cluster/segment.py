"""One network's segment on this host: the endpoints on other hosts, in the kernel as etcd has them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnm.cluster.etcd.contract import Event, KeyValue
from cnm.cluster.macs import Macs
from cnm.cluster.peers import Change, Heard, Peer, Peers
from cnm.cluster.records import Node
from cnm.errors import CnmError
from cnm.kernel.contract import Kernel
from cnm.kernel.state import RemotePeer

log = logging.getLogger(__name__)

Named = Callable[[str, Mapping[str, Peer | None]], None]
"""Hears of (network's id, endpoints by id, None for one that is gone): names are somebody else's affair."""


class Segment:
    """A mirror's handler. What the kernel refuses is logged; `examine` finds it, and `mend` tries again."""

    def __init__(
        self,
        network_id: str,
        peers: Peers,
        kernel: Kernel,
        *,
        namespace: str,
        bridge: str,
        tunnel: str,
        encrypted: bool,
        multicast: bool,
        named: Named,
    ) -> None:
        self.network_id = network_id
        self.peers = peers
        self.encrypted = encrypted
        self._kernel = kernel
        self.namespace, self.bridge, self.tunnel = namespace, bridge, tunnel
        self._multicast = multicast
        self._flooded: frozenset[str] = frozenset()
        self._named = named
        self._macs = Macs()
        self._heard = False
        """Of everything there is; before, what the kernel has is all that is known."""
        self._lock = threading.Lock()
        """What is known and what is in the kernel change together."""

    def reset(self, items: Sequence[KeyValue]) -> None:
        """The kernel may have more, and less, than what was known here: it outlives the daemon."""
        with self._lock:
            self._heard = True
            change = self.peers.reset(items)
            self._program(*self._differences())
            self._flood(again=True)
            for each in change.heard:
                self._macs.heard(*each)
        self._tell(change)

    def change(self, events: Sequence[Event]) -> None:
        with self._lock:
            change = self.peers.change(events)
            self._program(change.removed, change.added)
            self._flood()
            self._announce(change.heard)
        self._tell(change)

    def node_changed(self, node: str, before: str, after: str) -> None:
        """Where its tunnels end, "" for nowhere."""
        with self._lock:
            change = self.peers.moved(node, before, after)
            self._program(change.removed, change.added)
            self._flood()

    def known(self) -> dict[str, Peer]:
        """The endpoints on other hosts, by id."""
        with self._lock:
            return self.peers.all()

    def unlike(self, items: Sequence[KeyValue]) -> dict[str, int]:
        with self._lock:
            return self.peers.unlike(items)

    def examine(self) -> tuple[list[RemotePeer], list[RemotePeer]]:
        """(what the kernel has and should not, what it lacks); nothing before the cluster has answered."""
        with self._lock:
            return self._differences() if self._heard else ([], [])

    def mend(self) -> int:
        """How many entries were wrong. Raises what the kernel refuses."""
        with self._lock:
            if not self._heard:
                return 0
            extra, missing = self._differences()
            self._kernel.program_peers(self.namespace, self.tunnel, missing, extra)
            self._flood(again=True)
        return len(extra) + len(missing)

    def _differences(self) -> tuple[list[RemotePeer], list[RemotePeer]]:
        return differences(
            self._kernel.observe_peers(self.namespace, self.tunnel).peers, self.peers.records()
        )

    def _program(self, removed: Iterable[RemotePeer], added: Iterable[RemotePeer]) -> None:
        removed, added = list(removed), list(added)
        if not removed and not added:
            return
        try:
            self._kernel.program_peers(self.namespace, self.tunnel, added, removed)
        except CnmError as error:
            log.error("network %s: %s; cnmctl doctor --repair tries again", self.network_id[:12], error)

    def _flood(self, *, again: bool = False) -> None:
        """Broadcasts go to the hosts that have endpoints in the network, where it wants them to."""
        if not self._multicast:
            return
        wanted = frozenset(filter(None, map(self.peers.end_of, self.peers.nodes())))
        if again:
            self._flooded = frozenset(self._kernel.observe_peers(self.namespace, self.tunnel).flood)
        have = self._flooded
        if wanted != have:
            self._kernel.flood(self.namespace, self.tunnel, sorted(wanted - have), sorted(have - wanted))
            self._flooded = wanted

    def _announce(self, heard: Sequence[Heard]) -> None:
        """Sandboxes here remember the MAC that an address had: on whatever host it was, and is."""
        moved = [holder for each in heard for holder in self._macs.heard(*each)]
        if not moved:
            return
        try:
            self._kernel.announce(self.namespace, self.bridge, moved)
        except CnmError as error:
            log.warning("network %s: %s", self.network_id[:12], error)

    def _tell(self, change: Change) -> None:
        if change.endpoints:
            self._named(self.network_id, change.endpoints)


def differences(
    have: Iterable[RemotePeer], wanted: Iterable[RemotePeer]
) -> tuple[list[RemotePeer], list[RemotePeer]]:
    """(those that are too many, those that lack), whatever the order of their addresses."""
    found, asked = ({_comparable(peer): peer for peer in peers} for peers in (have, wanted))
    too_many = [peer for key, peer in found.items() if key not in asked]
    return too_many, [peer for key, peer in asked.items() if key not in found]


def _comparable(peer: RemotePeer) -> tuple[str, str, tuple[str, ...]]:
    return peer.mac, peer.vtep, tuple(sorted(peer.addresses))


def end_of(node: Node | None, *, encrypted: bool) -> str:
    """Where a node's tunnels of such a network end, "" where that is not known."""
    if node is None:
        return ""
    return node.transport if encrypted else node.address
