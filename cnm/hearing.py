"""What other hosts of the cluster do, as it is heard: networks come and go here too, and names of their endpoints."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping

import msgspec

from cnm import cluster_guard
from cnm.cluster.cluster import Listeners
from cnm.cluster.peers import Peer
from cnm.cluster.records import Node, SharedNetwork
from cnm.clustered import forget, from_shared
from cnm.errors import CnmError, Conflict
from cnm.naming import is_nameable
from cnm.network import Network, NetworkState
from cnm.resolver.records import Member
from cnm.resources import Resources
from cnm.stand_ins import endpoints_on

replace = msgspec.structs.replace

_LATER_SECONDS = 0.02
"""Names are told after what packets need, which the same changes bring, and many at once."""
_AT_ONCE = 500
"""Endpoints whose names are told in one go, during which no verb tells its own."""

log = logging.getLogger(__name__)


class Hearing:
    """Follows what other hosts do; each call comes in a thread of the cluster's."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources
        self._hidden: dict[str, SharedNetwork] = {}
        """Networks of the cluster whose name another network of this host has, by id."""
        self._named: dict[str, dict[str, Peer | None]] = {}
        """Endpoints elsewhere whose names are not told yet, by network."""
        self._to_reveal = threading.Event()
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._wake = threading.Event()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        resources.cluster.listeners = Listeners(
            self.network_changed, self.peers_changed, self.node_changed, self.flush
        )
        resources.model.network_name_freed = self._name_freed

    def hidden(self) -> list[SharedNetwork]:
        with self._lock:
            return list(self._hidden.values())

    def forget(self) -> None:
        """This host left the cluster."""
        with self._lock:
            self._hidden.clear()

    def network_changed(self, ident: str, shared: SharedNetwork | None) -> None:
        with self._r.locks.verbs.shared(), self._r.locks.network(ident).exclusive():
            with self._lock:
                self._hidden.pop(ident, None)
            known = next((n for n in self._r.model.networks() if n.id == ident), None)
            if shared is None:
                if known is not None:
                    self._forget(known)
            elif known is None:
                self._add(shared)
            else:
                self._adapt(known, shared)

    def _add(self, shared: SharedNetwork) -> bool:
        """In the model and in the store; hidden, and False, where another network has its name."""
        r, network = self._r, from_shared(shared)
        with self._lock:  # before the look, so that a name which is given back meanwhile is not missed
            self._hidden[shared.id] = shared
        if not self._has_a_place(network):
            log.error(
                "network %s of the cluster is hidden here by another network of this name: remove that one",
                shared.name,
            )
            return False
        with self._lock:
            del self._hidden[shared.id]
        r.store.commit(put=[network], durable=True)
        r.events.publish("network", "create", network.id, name=network.name, type=network.driver)
        return True

    def _has_a_place(self, network: Network) -> bool:
        """In the model, from now on; not where another one has its name."""
        try:
            self._r.model.add_network(network)
        except Conflict:
            return False
        return True

    def _name_freed(self) -> None:
        self._to_reveal.set()
        self._wake.set()

    def _reveal(self) -> None:
        """A network of this host is gone, or did not come: one of the cluster's may have its name now."""
        self._to_reveal.clear()
        for ident in [shared.id for shared in self.hidden()]:
            with self._r.locks.verbs.shared(), self._r.locks.network(ident).exclusive():
                shared = next((each for each in self.hidden() if each.id == ident), None)
                if shared is None or self._is_taken(shared.name):
                    continue
                if self._add(shared):
                    log.info("network %s of the cluster is no longer hidden here", shared.name)

    def _is_taken(self, name: str) -> bool:
        return any(network.name == name for network in self._r.model.networks())

    def _adapt(self, known: Network, shared: SharedNetwork) -> None:
        if known.state is not NetworkState.ACTIVE or known.records == shared.records:
            return
        changed = replace(known, records=shared.records)
        self._r.store.commit(put=[changed], durable=True)
        self._r.model.replace(changed)
        self._r.naming.records_changed(changed)

    def _forget(self, network: Network) -> None:
        r = self._r
        if endpoints_on(r, network.id):
            log.error(
                "network %s was removed from the cluster, and has endpoints here: they reach nobody elsewhere any more",
                network.name,
            )
            return
        forget(r, network)

    def node_changed(self, node: Node | None) -> None:
        self._r.encryption.node_changed()
        try:
            with self._r.locks.verbs.shared():
                cluster_guard.nodes_changed(self._r)
        except CnmError as error:
            log.error("the firewall does not know the cluster's nodes: %s", error)

    # Names

    def peers_changed(self, network_id: str, peers: Mapping[str, Peer | None]) -> None:
        """Told by a thread: whoever follows the endpoints does not wait for the resolver."""
        with self._lock:
            self._named.setdefault(network_id, {}).update(peers)
        self._wake.set()

    def flush(self) -> None:
        """Everything that was heard of names is told when this returns."""
        with self._telling:
            with self._lock:
                named, self._named = self._named, {}
            for network_id, peers in named.items():
                self._tell(network_id, peers)

    def _tell(self, network_id: str, peers: Mapping[str, Peer | None]) -> None:
        with contextlib.suppress(CnmError):
            network = self._r.model.network(network_id)
            if not is_nameable(network):
                return
            members = {ident: _member(ident, peer) for ident, peer in peers.items()}
            for some in _parts(list(members)):
                self._r.naming.elsewhere(network, {ident: members[ident] for ident in some})

    def start(self) -> None:
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="names elsewhere", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.wait()
            self._end.wait(_LATER_SECONDS)
            self._wake.clear()
            self.flush()
            if self._to_reveal.is_set():
                try:
                    self._reveal()
                except CnmError as error:
                    log.error("networks of the cluster that are hidden here stay so: %s", error)


def _member(ident: str, peer: Peer | None) -> Member | None:
    if peer is None:
        return None
    ipv4 = next((a for a in peer.addresses if ":" not in a), "")
    ipv6 = next((a for a in peer.addresses if ":" in a), "")
    return Member(ident, peer.names, ipv4, ipv6)


def _parts(idents: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(idents), _AT_ONCE):
        yield idents[start : start + _AT_ONCE]
