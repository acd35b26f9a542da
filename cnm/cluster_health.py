"""How this host fares in its cluster: the paths to the others, the audit, figures and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnm.audit import Audit
from cnm.cluster.etcd.contract import Following
from cnm.cluster.records import Node
from cnm.cluster.tally import Counted
from cnm.cluster_warnings import network_warnings, standing_warnings
from cnm.errors import NotFound
from cnm.hearing import Hearing
from cnm.paths import Paths, Seen
from cnm.resources import Resources
from cnm.wire.overlay import NodePing

_MILLISECONDS = 1000


class Figures(NamedTuple):
    """For metrics; `peers` are numbers of endpoints on other hosts, by network."""

    nodes: int
    peers: dict[str, int]
    counted: Counted
    stands: Following
    is_alive: bool


class ClusterHealth:
    """Its threads run from `start` to `close`, and rest while this host is in no cluster."""

    def __init__(self, resources: Resources, hearing: Hearing) -> None:
        self._r = resources
        self._hearing = hearing
        self._paths = Paths(resources)
        self.audit = Audit(resources)
        resources.cluster.listeners = resources.cluster.listeners._replace(
            node=self._node_changed, recovered=self.audit.soon
        )

    def start(self) -> None:
        self._paths.start()
        self.audit.start()

    def close(self) -> None:
        self._paths.close()
        self.audit.close()

    def forget(self) -> None:
        """This host has left the cluster."""
        self._paths.forget()
        self.audit.forget()

    def ping(self, names: Sequence[str]) -> list[NodePing]:
        """See `Paths.ping`."""
        return [_shown(seen) for seen in self._paths.ping(names)]

    def latest(self) -> list[NodePing]:
        """As the last looks saw the nodes; none where nobody has looked."""
        return [_shown(seen) for seen in self._paths.latest()]

    def warnings(self) -> Iterator[str]:
        """Everything that is worth one."""
        yield from standing_warnings(self._r, self._paths)
        yield from self.network_warnings()

    def network_warnings(self) -> Iterator[str]:
        """About the cluster's networks, and the paths that they use."""
        return network_warnings(self._r, self._paths, self._hearing.hidden(), self.audit.clashes)

    def figures(self) -> Figures | None:
        """None where this host is in no cluster."""
        cluster = self._r.cluster
        if not cluster.present:
            return None
        return Figures(
            nodes=len(cluster.nodes.all()),
            peers={self._name(each.network_id): len(each.peers) for each in cluster.segments()},
            counted=cluster.tally.read(),
            stands=cluster.stands,
            is_alive=cluster.is_alive,
        )

    def _name(self, network_id: str) -> str:
        try:
            return self._r.model.network(network_id).name
        except NotFound:
            return network_id

    def _node_changed(self, node: Node | None) -> None:
        self._hearing.node_changed(node)
        self._paths.node_changed()


def _shown(seen: Seen) -> NodePing:
    answer = seen.answer
    return NodePing(
        name=seen.name,
        address=seen.address,
        state=seen.health.value,
        rtt=_milliseconds(answer.tunnel if answer else None),
        underlay_rtt=_milliseconds(answer.beside if answer else None),
        mtu=answer.mtu if answer else 0,
        wanted_mtu=answer.target.size if answer else 0,
        detail=seen.words,
    )


def _milliseconds(seconds: float | None) -> float:
    return round((seconds or 0.0) * _MILLISECONDS, 3)
