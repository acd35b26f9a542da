"""What is known of the paths to the other hosts of the cluster: looked at when asked, and now and then."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from cnm import probe
from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import Denied, EtcdError
from cnm.cluster.records import Node, Registration
from cnm.drivers import overlay
from cnm.errors import CnmError, NotFound, Unavailable
from cnm.kernel.contract import Port
from cnm.pinging import Answer, Health, Target, look
from cnm.resources import Resources
from cnm.rounds import Rounds

_LOOK_SECONDS = 60.0
_NEW_NODE_SECONDS = 2.0
"""Until the others have heard of it, and it of them."""
_AGAIN_SECONDS = 10.0
"""After a look that found something: it may pass, or have passed."""
_AT_ONCE = 64
"""Nodes of a look that nobody asked for; in a bigger cluster they take turns."""

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """A node at the last look; `answer` None where it was not asked, since the cluster does not see it."""

    name: str
    address: str
    health: Health
    words: str
    answer: Answer | None = None


class Paths:
    """Thread-safe; the thread of its own runs from `start` to `close`."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        """By node."""
        self._registered: dict[str, Registration] = {}
        """As the cluster said last."""
        self._turn = 0
        self._rounds = Rounds("paths", _LOOK_SECONDS, self._look)

    def start(self) -> None:
        self._rounds.start()
        self._rounds.soon(_NEW_NODE_SECONDS)

    def close(self) -> None:
        self._rounds.close()

    def node_changed(self) -> None:
        self._rounds.soon(_NEW_NODE_SECONDS)

    def forget(self) -> None:
        """This host has left the cluster."""
        with self._lock:
            self._seen, self._registered = {}, {}

    def latest(self) -> list[Seen]:
        """What the last looks saw."""
        with self._lock:
            return sorted(self._seen.values())

    def registered(self) -> list[str]:
        """Names of the cluster's nodes, as it said last; none before it has said anything."""
        with self._lock:
            return list(self._registered)

    def ping(self, names: Sequence[str] = ()) -> list[Seen]:
        """Look at some nodes now, or at all but this one. Raises Forbidden where this host is in no cluster, NotFound
        for an unknown node, Unavailable where nothing can be probed."""
        self._r.cluster.etcd()
        self._read_registrations()
        alive = {node.name: node for node in self._r.cluster.nodes.all()}
        known = {*alive, *self._registered}
        for name in names:
            if name not in known:
                raise NotFound(
                    f"node {name} is not in the cluster: cnmctl cluster status lists those that are"
                )
        others = [name for name in sorted(known) if name != self._r.cluster.node_name]
        return self._look_at(list(dict.fromkeys(names)) or others, alive)

    def _look(self) -> None:
        """The background's."""
        if not self._r.cluster.id:
            return
        self._read_registrations()
        alive = {node.name: node for node in self._r.cluster.nodes.all()}
        others = sorted({*alive, *self._registered} - {self._r.cluster.node_name})
        with self._lock:
            self._seen = {name: seen for name, seen in self._seen.items() if name in others}
        some = [others[(self._turn + n) % len(others)] for n in range(min(_AT_ONCE, len(others)))]
        self._turn += len(some)
        try:
            found = self._look_at(some, alive) if some else []
        except CnmError as error:
            log.warning("the paths to other hosts were not looked at: %s", error)
            return
        if any(seen.health not in (Health.OK, Health.AWAY) for seen in found):
            self._rounds.soon(_AGAIN_SECONDS)

    def _look_at(self, names: Sequence[str], alive: dict[str, Node]) -> list[Seen]:
        asked = [self._target(alive[name]) for name in names if name in alive]
        try:
            answers = look(self._r.kernel, probe.namespace(self._r), asked) if asked else []
        except NotFound:
            raise Unavailable(
                "the probe segment is not there: cnmctl doctor --repair makes it again"
            ) from None
        seen = {name: self._away(name) for name in names if name not in alive}
        for answer in answers:
            target, words = answer.target, answer.words(self._port())
            seen[target.name] = Seen(target.name, target.address, answer.health, words, answer)
        with self._lock:
            before = {name: self._seen[name].words for name in seen if name in self._seen}
            self._seen |= {name: each for name, each in seen.items() if name != self._r.cluster.node_name}
        for name, each in seen.items():
            if each.words and each.words != before.get(name):
                log.warning("node %s: %s", name, each.words)
        return [seen[name] for name in names]

    def _port(self) -> int:
        underlay = self._r.cluster.underlay
        return underlay.port if underlay else 0

    def _target(self, node: Node) -> Target:
        with self._lock:
            registered = self._registered.get(node.name)
        return Target(
            name=node.name,
            address=node.address,
            probe=self._probe(node.name),
            size=self.size(),
            etcd=_port(registered.endpoint) if registered else None,
        )

    def _probe(self, name: str) -> str:
        segment = self._r.cluster.probe
        if segment is None:
            raise Unavailable("the probe segment is not there: cnmctl doctor --repair makes it again")
        return segment.address(name)

    def size(self) -> int:
        """Bytes of the biggest packet that any network in the clear may send, or could if there were one."""
        underlay = self._r.cluster.underlay
        assert underlay is not None
        most = underlay.mtu - overlay.ENCAPSULATION[ipaddress.ip_address(underlay.address).version]
        return max([most, *(n.mtu for n in self._r.cluster.networks() if not n.encrypted)])

    def _away(self, name: str) -> Seen:
        lost = self._r.cluster.nodes.lost(name)
        since = datetime.fromtimestamp(lost, UTC).strftime(" since %Y-%m-%dT%H:%M:%SZ") if lost else ""
        words = f"not alive{since}: start its cnmd, or remove it with cnmctl cluster rm {name}"
        return Seen(name, "", Health.AWAY, words)

    def _read_registrations(self) -> None:
        """What was known stays where nobody answers."""
        try:
            items = self._r.cluster.etcd().list(keys.REGISTRATIONS, stale=True).items
        except (EtcdError, Denied):
            return
        found = dict(_registrations(item.value for item in items))
        with self._lock:
            self._registered = found


def _registrations(values: Iterator[bytes]) -> Iterator[tuple[str, Registration]]:
    for value in values:
        try:
            registration = records.decode(value, Registration)
        except msgspec.DecodeError as error:
            log.error("a registration of the cluster is not readable: %s", error)
            continue
        yield registration.name, registration


def _port(endpoint: str) -> Port | None:
    """Of ADDRESS:PORT, [ADDRESS]:PORT with IPv6; None for anything else."""
    host, _, port = endpoint.rpartition(":")
    try:
        return Port(str(ipaddress.ip_address(host.strip("[]"))), int(port))
    except ValueError:
        return None
