"""This host's part in a cluster: who else is there, which networks there are, and what the others must know of it.

The data path never waits for etcd: what is in the kernel stays as it is while nobody answers, and agrees again later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import NamedTuple

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import Denied, Etcd, EtcdError, Following, Snapshot
from cnm.cluster.mirror import Handler, Mirror, Worker
from cnm.cluster.networks import NetworkList
from cnm.cluster.nodes import Nodes
from cnm.cluster.peers import Peer, Peers
from cnm.cluster.probe import ProbeSegment
from cnm.cluster.records import Node, SharedEndpoint, SharedNetwork
from cnm.cluster.segment import Segment, end_of
from cnm.cluster.session import Session
from cnm.cluster.shared_ipam import SharedIpam
from cnm.cluster.tally import Tally
from cnm.cluster.volumes import SharedVolumes
from cnm.driver import Underlay
from cnm.errors import Forbidden
from cnm.kernel.contract import Kernel

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a network's segment is on this host."""

    network_id: str
    namespace: str
    bridge: str
    tunnel: str
    encrypted: bool
    multicast: bool


class Joined(NamedTuple):
    """An endpoint of this host's that is in a sandbox."""

    network_id: str
    endpoint_id: str
    shared: SharedEndpoint


class Listeners(NamedTuple):
    """Whom the cluster tells what it hears, each in a thread of its own; set by those above."""

    network: Callable[[str, SharedNetwork | None], None]
    """A network of the cluster is new, was changed, or is gone (None)."""
    named: Callable[[str, Mapping[str, Peer | None]], None]
    """Endpoints of a network on other hosts, by id (None: gone). Returns at once."""
    node: Callable[[Node | None], None] = lambda node: None
    """A node is new or has changed, or one is gone (None)."""
    settle: Callable[[], None] = lambda: None
    """Returns when whoever is concerned has heard what `named` was told."""
    recovered: Callable[[], None] = lambda: None
    """The cluster was away, or could not be told something, and all is to be compared soon. Returns at once."""


class Cluster:
    """One per daemon; nothing in it works before `begin`, but `underlay` after `describe`. Thread-safe."""

    def __init__(self, kernel: Kernel, avoid: Callable[[], Sequence[str]]) -> None:
        """`avoid` are CIDR texts of this host's own networks."""
        self.listeners = Listeners(lambda ident, network: None, lambda ident, peers: None)
        self.ipam = SharedIpam(self.etcd, lambda: self.node_name, lambda: (*avoid(), *self._underlays()))
        self.ipam.doubted = lambda: self.listeners.recovered()
        self.volumes = SharedVolumes(self.etcd, lambda: self.node_name)
        self.nodes = Nodes(self._node_changed, self._nodes_known)
        self.tally = Tally()
        self.probe: ProbeSegment | None = None
        """Once its devices are there."""
        self._networks = NetworkList(self._network_changed)
        self._kernel = kernel
        self._lock = threading.RLock()
        self._etcd: Etcd | None = None
        self._node: Node | None = None
        self._id = ""
        self._pool = ""
        self._describing = threading.Lock()
        self._vxlan_port = 0
        self._session: Session | None = None
        self._segments: dict[str, tuple[Segment, Mirror]] = {}
        """By network's id."""
        self._mirrors: list[Mirror] = []
        self._waiting: list[Mirror] = []
        """Of networks that were here before, until it is known where nodes' tunnels end."""
        self._workers: list[Worker] = []
        self._asking = ThreadPoolExecutor(thread_name_prefix="telling")

    # What this host is

    def describe(self, node: Node, vxlan_port: int, cluster_id: str = "", pool: str = "") -> None:
        """What is known of this host's part before anybody answers; without the cluster's id nothing is probed, without
        the pool of transport addresses nothing encrypted."""
        self._node, self._vxlan_port, self._id, self._pool = node, vxlan_port, cluster_id, pool

    @property
    def node(self) -> Node | None:
        """This host as a node, None where it is in no cluster."""
        return self._node

    def redescribe(self, changed: Callable[[Node], Node]) -> None:
        """This host may have changed. Raises EtcdError, Denied; the others hear of it later then."""
        with self._describing:
            if self._node is None or (node := changed(self._node)) == self._node:
                return
            self._node = node
            if self._session is not None:
                self._session.describe(node)

    @property
    def present(self) -> bool:
        """Whether this host is in a cluster."""
        return self._node is not None

    @property
    def id(self) -> str:
        """The cluster's, "" where it is not known."""
        return self._id if self._node else ""

    @property
    def transport_pool(self) -> str:
        """CIDR text of the pool that nodes' addresses inside tunnels are from, "" where there is none."""
        return self._pool

    @property
    def node_name(self) -> str:
        return self._node.name if self._node else ""

    def etcd(self) -> Etcd:
        """Raises Forbidden where this host is in no cluster."""
        if self._etcd is None:
            if self._node is not None:
                raise EtcdError("the cluster does not answer yet: see cnmctl cluster status")
            raise Forbidden(
                'This node is in no cluster. Use "cnmctl cluster init" or "cnmctl cluster join" to connect it to '
                "one, and try again."
            )
        return self._etcd

    @property
    def underlay(self) -> Underlay | None:
        if self._node is None:
            return None
        alive = [node.mtu for node in self.nodes.all()]
        return Underlay(
            address=self._node.address,
            mtu=min([self._node.mtu, *alive]),
            port=self._vxlan_port,
            transport=self._node.transport,
            transport_mtu=min(
                [self._node.transport_mtu, *(n.transport_mtu for n in self.nodes.all() if n.transport)]
            ),
        )

    def _underlays(self) -> list[str]:
        """The other hosts' own addresses: no network may have a subnet around one."""
        own = {self._node.address} if self._node else set()
        ends = own | {node.address for node in self.nodes.all()}
        return [f"{address}/{128 if ':' in address else 32}" for address in sorted(ends)]

    # Its life

    def begin(self, etcd: Etcd, places: Iterable[Place], joined: Iterable[Joined]) -> None:
        """After `describe`; `places` and `joined` are what was here before. Returns at once, whoever answers."""
        assert self._node is not None
        with self._lock:
            self._etcd = etcd
            self._workers = [Worker("cluster"), Worker("segments")]
            session = Session(etcd, self._node, self._agree, self._contested)
            session.resume((j.network_id, j.endpoint_id, records.encode(j.shared)) for j in joined)
            self._session = session
            self._mirrors = [
                self._mirror(keys.NODES, self.nodes, self._workers[0]),
                self._mirror(keys.NETWORKS, self._networks, self._workers[0]),
            ]
            self._waiting = [self._follow(place) for place in places]
            for mirror in self._mirrors:
                mirror.open_soon()
        session.start()

    def end(self, *, leave: bool = False) -> None:
        """`leave`: the others forget this host now, and it is in no cluster any more."""
        with self._lock:
            mirrors = [*self._mirrors, *(mirror for _, mirror in self._segments.values())]
            workers, session = self._workers, self._session
            self._mirrors, self._workers, self._session, self._etcd = [], [], None, None
            self._waiting = []
            self._segments.clear()
        for mirror in mirrors:
            mirror.close()
        for worker in workers:
            worker.close()
        if session is not None:
            session.close(leave=leave)
        if leave:
            self._node, self.probe = None, None
            self.nodes.reset([])
            self._networks.known.clear()

    @property
    def stands(self) -> Following:
        """How it stands with what is known of the cluster here: as badly as with the worst."""
        worst = next(
            (m.stands for m in self.mirrors() if m.stands is not Following.CURRENT), Following.CURRENT
        )
        return worst if self.is_alive else Following.DEGRADED

    @property
    def is_alive(self) -> bool:
        """Whether the others see this host, as far as is known here."""
        return self._session is not None and self._session.is_alive

    def networks(self) -> list[SharedNetwork]:
        return list(self._networks.known.values())

    # What verbs do

    @contextmanager
    def taking_part(self, network_id: str) -> Iterator[Future[Snapshot]]:
        """The network's first endpoint comes. A thread tells it, so that a member lets this host write, and reads who
        else is there, while the devices are made inside; `enter` comes last. This host takes no part where one of them
        fails. Raises EtcdError, Forbidden."""
        session = self._alive()
        found = self._asking.submit(_begin, session, self.etcd(), network_id)
        try:
            yield found
        except BaseException:
            wait([found])
            self.exit(network_id)
            raise

    def enter(self, place: Place, found: Future[Snapshot]) -> None:
        """The network's devices are there: what is on other hosts can be reached then. Raises EtcdError."""
        snapshot = found.result()
        with self._lock:
            mirror = self._follow(place)
        mirror.open(snapshot)

    def exit(self, network_id: str) -> None:
        """Before its devices go; never fails."""
        with self._lock:
            segment = self._segments.pop(network_id, None)
            session = self._session
        if segment is not None:
            segment[1].close()
            self.listeners.named(network_id, dict.fromkeys(segment[0].peers.idents()))
        if session is not None:
            session.part(network_id)

    def publish(self, joined: Joined) -> None:
        """The others send packets to it from now on. Raises EtcdError, Unavailable."""
        self._alive().publish(joined.network_id, joined.endpoint_id, records.encode(joined.shared))

    @contextmanager
    def publishing(self, joined: Joined) -> Iterator[None]:
        """The same by a thread, while the endpoint's links are made inside: told at the end. Whatever fails, it is
        `withdraw` that takes it back."""
        told = self._asking.submit(self.publish, joined)
        try:
            yield
        except BaseException:
            wait([told])
            raise
        told.result()

    def amend(self, joined: Joined) -> None:
        """Something else is to be known of an endpoint that was published. Never fails: it is told later."""
        if self._session is not None:
            self._session.amend(joined.network_id, joined.endpoint_id, records.encode(joined.shared))

    def withdraw(self, network_id: str, endpoint_id: str) -> None:
        """Before it goes; never fails."""
        if self._session is not None:
            self._session.withdraw(network_id, endpoint_id)

    def _alive(self) -> Session:
        self.etcd()
        assert self._session is not None
        return self._session

    def _follow(self, place: Place) -> Mirror:
        prefix = keys.endpoints(place.network_id)
        peers = Peers(
            prefix, self.node_name, lambda node: end_of(self.nodes.get(node), encrypted=place.encrypted)
        )
        segment = Segment(
            place.network_id,
            peers,
            self._kernel,
            namespace=place.namespace,
            bridge=place.bridge,
            tunnel=place.tunnel,
            encrypted=place.encrypted,
            multicast=place.multicast,
            named=lambda ident, changed: self.listeners.named(ident, changed),
        )
        mirror = self._mirror(prefix, segment, self._workers[1])
        self._segments[place.network_id] = segment, mirror
        return mirror

    def _mirror(self, prefix: str, handler: Handler, worker: Worker) -> Mirror:
        return Mirror(self.etcd(), prefix, handler, worker, self.tally, lambda: self.listeners.recovered())

    # What doctor asks

    def segments(self) -> list[Segment]:
        with self._lock:
            return [segment for segment, _ in self._segments.values()]

    def segment(self, network_id: str) -> Segment | None:
        """None for a network that this host takes no part in."""
        with self._lock:
            found = self._segments.get(network_id)
        return found[0] if found else None

    def tunnels(self) -> list[Segment | ProbeSegment]:
        """Whatever has entries for other hosts in the kernel."""
        return [*self.segments(), *([self.probe] if self.probe else [])]

    def mirrors(self) -> list[Mirror]:
        with self._lock:
            return [*self._mirrors, *(mirror for _, mirror in self._segments.values())]

    def audit_session(self) -> int:
        """How many keys of this host's were not as they should be. Raises EtcdError, Denied."""
        return self._session.audit() if self._session else 0

    # What is heard

    def _node_changed(self, name: str, before: Node | None, after: Node | None) -> None:
        for segment in self.segments():
            was = end_of(before, encrypted=segment.encrypted)
            now = end_of(after, encrypted=segment.encrypted)
            if was != now and name != self.node_name:
                segment.node_changed(name, was, now)
        if self.probe is not None:
            self.probe.node_changed(name, after)
        self.listeners.node(after)

    def _nodes_known(self) -> None:
        """What is in the kernel can be compared: without the ends of tunnels all of it would go, and come again."""
        if self.probe is not None:
            self.probe.settle(self.nodes.all())
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for mirror in waiting:
            mirror.open_soon()

    def _network_changed(self, ident: str, network: SharedNetwork | None) -> None:
        self.listeners.network(ident, network)

    def _contested(self) -> list[str]:
        """Claims of this host that were lost are made again before the others hear of its endpoints; the addresses that
        somebody else claims by now are returned. Raises EtcdError, Denied."""
        try:
            _, clashes = self.ipam.claim_again()
        except Forbidden:  # this host has left meanwhile
            return []
        for address in clashes:
            log.error(
                "address %s of this host is claimed by another one: its endpoint is not told to the others",
                address,
            )
        return clashes

    def _agree(self) -> None:
        """The session is whole (again): claims that nobody knew how to give back go."""
        with suppress(EtcdError, Denied, Forbidden):
            given_back = self.ipam.give_back_strangers()
            if given_back:
                log.info("%d addresses that nothing here has were given back to the cluster", given_back)
        self.listeners.recovered()


def _begin(session: Session, etcd: Etcd, network_id: str) -> Snapshot:
    session.take_part(network_id)
    return etcd.list(keys.endpoints(network_id))
