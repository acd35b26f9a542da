"""This host's part in encrypted networks: its keys, its tunnels to the other nodes, and what those are told of it.

There are tunnels while this host has an endpoint in an encrypted network, and no longer. Who else has some is heard
from the nodes' records, and remembered: a daemon that starts while nobody answers goes on with what there is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import msgspec

from cnm.cluster import wireguard_keys
from cnm.cluster.cluster import Cluster
from cnm.cluster.etcd.contract import Denied, EtcdError
from cnm.cluster.identity import transport_address
from cnm.cluster.records import Node
from cnm.cluster.tunnel_config import (
    OVERHEAD,
    OwnEnd,
    TunnelConfig,
    TunnelPeer,
    check_peer,
    tunnel_peer,
    with_peers,
)
from cnm.cluster.tunnels import PeerReport
from cnm.cluster.wireguard_keys import Announced, KeyRing, public_key
from cnm.errors import CnmError, Conflict, InvalidParameter, NotBuilt
from cnm.kernel.state import HOST, Finding, KernelState, Problem
from cnm.locks import SharedLock
from cnm.rounds import Rounds
from cnm.store import Store

log = logging.getLogger("cnm.wireguard")

ROTATION_SECONDS = 24 * 3600.0
"""Age of a key after which the node makes the next one."""
_LOOK_SECONDS = 60.0
_BUSY_SECONDS = 1.0
"""While keys are being replaced, or something did not work."""
_LONG_SECONDS = 600.0
"""A rotation takes seconds; after so long somebody should look."""
_DEAD_SECONDS = 180.0
"""WireGuard uses no session that is older."""
_KNOWN = "tunnel-peers"
"""Of the store: the other ends of tunnels when the cluster last answered."""


class TunnelsOfNode(Protocol):
    """`cnm.cluster.tunnels.Tunnels`, as far as it is used here."""

    def up(self, config: TunnelConfig) -> None: ...

    def set(self, config: TunnelConfig) -> None: ...

    def repair(self) -> None: ...

    def close(self) -> None: ...

    def leave(self) -> None: ...

    def wanted(self) -> KernelState: ...

    def reached(self, generation: int) -> frozenset[str]: ...

    def report(self) -> tuple[PeerReport, ...]: ...


class Way(NamedTuple):
    """How tunnels are made on this host."""

    make: Callable[[str, str, Callable[[], None]], TunnelsOfNode]
    """Of (cluster's id, node's name, whom to call when nodes are reached by other keys)."""
    is_able: Callable[[], bool]
    """Whether there is a WireGuard; asked again and again."""


class Encryption:
    """Thread-safe. Callers of `enter`, `exit`, `resume` and `repair` hold `locks.verbs`.

    Its thread runs from `start` to `close`.
    """

    def __init__(
        self, store: Store, cluster: Cluster, verbs: SharedLock, path: str, port: int, way: Way
    ) -> None:
        """`path` is the file of the keys; of UDP ports it uses `port` and the next one."""
        self._store = store
        self._cluster = cluster
        self._verbs = verbs
        self._path = path
        self._port = port
        self._way = way
        self._lock = threading.RLock()
        self._networks: set[str] = set()
        """Ids of the encrypted ones that this host takes part in."""
        self._ring: KeyRing | None = None
        self._tunnels: TunnelsOfNode | None = None
        self._peers: tuple[TunnelPeer, ...] = ()
        self._wrong: list[str] = []
        """Nodes that no tunnel is made to, and why."""
        self._trouble = ""
        """Why not everything is as it should be."""
        self._is_asked = False
        self._rounds = Rounds("encryption", _LOOK_SECONDS, self._follow)

    def start(self) -> None:
        self._rounds.start()
        self._rounds.soon(0.0)

    def close(self) -> None:
        """The daemon ends: packets go on."""
        self._rounds.close()
        if self._tunnels is not None:
            self._tunnels.leave()

    # What the others are told

    def describe(self, node: Node, pool: str) -> Node:
        """A transport address where this host can encrypt, public keys while it does."""
        ring = self._ring
        if not pool or (ring is None and not self._way.is_able()):
            return msgspec.structs.replace(node, transport="", transport_mtu=0, **_keys(None, self._port))
        return msgspec.structs.replace(
            node,
            transport=transport_address(pool, node.name),
            transport_mtu=max(0, node.mtu - OVERHEAD),
            **_keys(ring, self._port),
        )

    def node_changed(self) -> None:
        if self._tunnels is not None:
            self._rounds.soon(0.0)

    # What verbs do

    def enter(self, network: str, network_id: str) -> None:
        """An encrypted network has its first endpoint here: there are tunnels, and the others know of them, when this
        returns. Raises NotBuilt where this host cannot encrypt, and what `Tunnels.set` and etcd do; nothing is left
        then."""
        with self._lock:
            if self._tunnels is None:
                try:
                    self._begin()
                except NotBuilt as error:
                    raise NotBuilt(f"network {network} is encrypted: {error}") from None
            self._networks.add(network_id)

    def exit(self, network_id: str) -> None:
        """Its last endpoint here is gone. Never fails."""
        with self._lock:
            self._networks.discard(network_id)
            if not self._networks:
                self._end()

    def rotate(self) -> None:
        """Have all nodes replace their keys, beginning with this one; returns at once. Raises Conflict."""
        if self._tunnels is None:
            raise Conflict(
                "this host has no keys: it has no endpoint in an encrypted network; do it on a host that has one"
            )
        self._is_asked = True
        self._rounds.soon(0.0)

    def forget(self) -> None:
        """This host has left the cluster."""
        with self._lock:
            self._networks.clear()
            self._end()

    def _begin(self) -> None:
        node = self._cluster.node
        assert node is not None
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            ring = wireguard_keys.load(self._path)
            if ring is None:
                ring = wireguard_keys.first_ring(_announced(self._heard()), time.time())
                wireguard_keys.save(self._path, ring)
            self._ring = ring
            self._tunnels = self._way.make(self._cluster.id, node.name, self._moved)
            self._tunnels.up(self._config(ring, self._heard()))
            self._tell()
            undo.pop_all()
        log.info("tunnels to other nodes are there: keys of generation %d", ring.current.generation)

    def _end(self) -> None:
        tunnels, self._tunnels, self._ring = self._tunnels, None, None
        self._peers, self._wrong, self._trouble, self._is_asked = (), [], "", False
        if tunnels is None:
            self._forget_keys()
            return
        try:
            self._tell()
        except (EtcdError, Denied) as error:
            log.warning("the cluster hears later that this host has no tunnels: %s", error)
        try:
            tunnels.close()
        except CnmError as error:
            log.error("a tunnel is not gone: %s; cnmctl doctor shows it", error)
        self._forget_keys()

    def _forget_keys(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        if self._store.setting(_KNOWN):
            self._store.remember(_KNOWN, "")

    # At start-up

    def resume(self, network_ids: Iterable[str]) -> None:
        """The encrypted networks that this host took part in before; tunnels that are of no use any more go."""
        with self._lock:
            self._networks = set(network_ids)
            node = self._cluster.node
            if node is None or not (self._networks or os.path.exists(self._path)):
                return
            self._tunnels = self._way.make(self._cluster.id, node.name, self._moved)
            if not self._networks:
                self._end()
                return
            try:
                self._resume(self._tunnels)
            except CnmError as error:
                self._trouble = str(error)
                log.error("encrypted networks do not work: %s", error)

    def _resume(self, tunnels: TunnelsOfNode) -> None:
        ring = wireguard_keys.load(self._path)
        if ring is None:
            log.warning("the WireGuard keys of this host are gone: new ones are made")
            ring = wireguard_keys.first_ring(_announced(self._heard()), time.time())
            wireguard_keys.save(self._path, ring)
        self._ring = ring
        known = msgspec.json.decode(self._store.setting(_KNOWN) or "[]", type=tuple[TunnelPeer, ...])
        tunnels.up(self._config(ring, known))
        self._tell()

    # What is looked at again and again

    def _moved(self) -> None:
        self._rounds.soon(0.0)

    def _follow(self) -> None:
        with self._verbs.shared(), self._lock:
            tunnels, ring = self._tunnels, self._ring
            if tunnels is None or self._cluster.node is None:
                return
            try:
                if ring is None:
                    self._resume(tunnels)
                else:
                    self._step(tunnels, ring)
            except CnmError as error:
                if str(error) != self._trouble:
                    log.error("tunnels are not as they should be: %s", error)
                self._trouble = str(error)
                self._rounds.soon(_BUSY_SECONDS)
                return
            self._trouble = ""

    def _step(self, tunnels: TunnelsOfNode, ring: KeyRing) -> None:
        heard = self._heard()
        ring = self._ring = self._advanced(tunnels, ring, self._config(ring, heard).peers)
        tunnels.set(self._config(ring, heard))
        self._remember()
        try:
            self._tell()
        except (EtcdError, Denied) as error:
            log.warning("the cluster hears later of this host's keys: %s", error)
        if ring.keys != (ring.current,):
            self._rounds.soon(_BUSY_SECONDS)

    def _advanced(self, tunnels: TunnelsOfNode, ring: KeyRing, peers: tuple[TunnelPeer, ...]) -> KeyRing:
        """The next step of a rotation, if there is one; without the cluster everything stays as it is."""
        if not self._cluster.is_alive:
            return ring
        now = time.time()
        is_old = now > ring.current.made + ROTATION_SECONDS
        after = wireguard_keys.advance(
            ring,
            self._speaking(tunnels, ring, _announced(peers)),
            tunnels.reached(ring.keys[-1].generation),
            now,
            rotate=self._is_asked or is_old,
        )
        if after != ring:
            wireguard_keys.save(self._path, after)
            generations = ", ".join(str(key.generation) for key in after.keys)
            log.info("WireGuard keys of generation %s; %d is sent by", generations, after.current.generation)
            if after.next is not None:
                self._is_asked = False
        return after

    def _speaking(
        self, tunnels: TunnelsOfNode, ring: KeyRing, others: dict[str, Announced]
    ) -> dict[str, Announced]:
        """Without those that have an old key only, and no session by it: they would hold a rotation up for ever."""
        if ring.keys == (ring.current,):
            return others
        old, begins = ring.keys[0].generation, time.time() - _DEAD_SECONDS
        silent = {
            each.node
            for each in tunnels.report()
            if each.generation == old and each.status.last_handshake < begins
        }
        return {name: said for name, said in others.items() if max(said) > old or name not in silent}

    def _heard(self) -> tuple[TunnelPeer, ...]:
        """The other nodes that have tunnels; what there was, where no node is known yet."""
        nodes = self._cluster.nodes.all()
        pool, own = self._cluster.transport_pool, self._cluster.node_name
        if not nodes or not pool:
            return self._peers
        found = (tunnel_peer(node, transport_address(pool, node.name)) for node in nodes if node.name != own)
        return tuple(sorted((peer for peer in found if peer), key=lambda peer: peer.node))

    def _config(self, ring: KeyRing, peers: tuple[TunnelPeer, ...]) -> TunnelConfig:
        node, pool = self._cluster.node, self._cluster.transport_pool
        assert node is not None
        if not pool:
            raise NotBuilt("the cluster has no addresses for tunnels: make it anew with this version of cnm")
        ends = tuple(
            OwnEnd(key.generation, key.slot, key.private_key, self._port + key.slot) for key in ring.keys
        )
        bare = TunnelConfig(transport_address(pool, node.name), pool, node.mtu, ends)
        config, wrong = with_peers(bare, peers, self._peers)
        for each in wrong:
            if each not in self._wrong:
                log.error("%s", each)
        self._peers, self._wrong = config.peers, wrong
        return config

    def _remember(self) -> None:
        known = msgspec.json.encode(self._peers).decode()
        if known != self._store.setting(_KNOWN):
            self._store.remember(_KNOWN, known)

    def _tell(self) -> None:
        self._cluster.redescribe(lambda node: self.describe(node, self._cluster.transport_pool))

    # What doctor and status ask

    def wanted(self) -> KernelState:
        tunnels = self._tunnels
        return tunnels.wanted() if tunnels else KernelState()

    def links(self) -> frozenset[str]:
        """Names of the interfaces, which are mended by `repair` only."""
        return frozenset(link.name for link in self.wanted().links)

    def examine(self) -> list[Finding]:
        """Interfaces that do not answer, or are not as they should be."""
        why = self._why()
        return [Finding(HOST, Problem.CHANGED, link, link, why) for link in self.wanted().links if why]

    def repair(self) -> None:
        """Raises what is refused."""
        with self._lock:
            if self._tunnels is not None and self._ring is not None:
                self._tunnels.repair()
                self._tunnels.set(self._config(self._ring, self._heard()))
                self._trouble = ""

    def states(self) -> dict[str, str]:
        """By node: how the tunnel to it is, `up` or `silent`; none where it cannot be known."""
        tunnels = self._tunnels
        if tunnels is None or self._why():
            return {}
        reports = [each for each in tunnels.report() if each.carries]
        begins = time.time() - _DEAD_SECONDS
        return {r.node: "up" if r.status.last_handshake > begins else "silent" for r in reports}

    def warnings(self) -> list[str]:
        """A line for each."""
        why = self._why()
        return [*([f"encrypted networks do not work: {why}"] if why else []), *self._wrong, *self._stuck()]

    def _stuck(self) -> Iterator[str]:
        """A rotation that does not come to its end."""
        tunnels, ring = self._tunnels, self._ring
        if tunnels is None or ring is None:
            return
        said, long_ago = _announced(self._peers), time.time() - _LONG_SECONDS
        if ring.next is not None and ring.next.made < long_ago:
            silent = said.keys() - tunnels.reached(ring.next.generation)
            yield (
                f"keys of encrypted networks cannot be replaced, since new ones do not reach {_listed(silent)}: let "
                f"UDP through between the hosts, at port {self._port} and the next one"
            )
        if ring.previous is not None and ring.promoted < long_ago:
            late = {name for name, each in said.items() if each.current < ring.current.generation}
            yield (
                f"old keys of encrypted networks are kept, since {_listed(late)} sends by them: see what cnmctl "
                "cluster status says there"
            )

    def _why(self) -> str:
        """Why not everything is as it should be, "" where it is."""
        tunnels = self._tunnels
        try:
            if tunnels is not None:
                tunnels.report()
        except CnmError as error:
            return str(error)
        return self._trouble


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def _announced(peers: Iterable[TunnelPeer]) -> dict[str, Announced]:
    """By those that can be believed: what a node says of generations moves all others."""
    found = {}
    for peer in peers:
        with contextlib.suppress(InvalidParameter):
            check_peer(peer)
            found[peer.node] = Announced(*(end.generation for end in peer.ends))
    return found


def _keys(ring: KeyRing | None, port: int) -> Mapping[str, str | int]:
    """Fields of a node's record."""
    current, following = (ring.current, ring.next) if ring else (None, None)
    return {
        "wireguard_key": public_key(current.private_key) if current else "",
        "wireguard_port": port + current.slot if current else 0,
        "wireguard_generation": current.generation if current else 0,
        "wireguard_since": _moment(current.made) if current else "",
        "next_wireguard_key": public_key(following.private_key) if following else "",
        "next_wireguard_port": port + following.slot if following else 0,
        "next_wireguard_generation": following.generation if following else 0,
    }


def _moment(seconds: float) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
