"""The probe segment: on each host of a cluster an address that answers over the very path that networks use.

It is a VXLAN segment with a VNI of its own. What it is called and who has which address follows from the names of the
cluster and of its nodes, so that nobody needs to be told.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import threading
from collections.abc import Iterable
from typing import NamedTuple

from cnm.cluster.records import Node
from cnm.cluster.segment import differences
from cnm.errors import CnmError
from cnm.kernel.contract import Kernel
from cnm.kernel.state import RemotePeer
from cnm.mac import derived_mac

VNI = 4095
"""No network's: below those that are chosen for networks, and refused where one is asked for."""
_GLOBAL_ID_DIGITS = 10
_SHORT = 12

log = logging.getLogger(__name__)


def short_id(cluster_id: str) -> str:
    """12 hex digits: the name of the segment's namespace, and its mark."""
    return hashlib.sha256(f"probe {cluster_id}".encode()).hexdigest()[:_SHORT]


def prefix(cluster_id: str) -> ipaddress.IPv6Network:
    """A /64 of unique local addresses (RFC 4193)."""
    digits = hashlib.sha256(f"probe subnet {cluster_id}".encode()).hexdigest()[:_GLOBAL_ID_DIGITS]
    number = int(f"fd{digits}0000", 16) << 64
    return ipaddress.IPv6Network((number, 64))


def address(cluster_id: str, node: str) -> str:
    """A node's, bare; the universal bit is off: it follows from no MAC (RFC 4291)."""
    digest = hashlib.sha256(f"probe address {node}".encode()).digest()
    interface = int.from_bytes(digest[:8]) & ~(1 << 57) | 1
    return str(prefix(cluster_id)[interface])


def mac(node: str) -> str:
    return derived_mac("02:42", f"probe {node}")


class Where(NamedTuple):
    """Of the segment on this host: the path of its namespace, and its links' names."""

    namespace: str
    bridge: str
    tunnel: str


class ProbeSegment:
    """The other nodes' addresses, in the kernel as the cluster has them. What the kernel refuses is logged."""

    def __init__(self, cluster_id: str, here: str, kernel: Kernel, where: Where) -> None:
        self._cluster_id, self._here, self._kernel = cluster_id, here, kernel
        self.namespace, self.bridge, self.tunnel = where
        self._nodes: dict[str, str] = {}
        """Where nodes' tunnels end, by name."""
        self._heard = False
        """Of all nodes; before, what the kernel has is all that is known."""
        self._lock = threading.Lock()
        """What is known and what is in the kernel change together."""

    def address(self, node: str) -> str:
        return address(self._cluster_id, node)

    def node_changed(self, name: str, after: Node | None) -> None:
        if name == self._here:
            return
        with self._lock:
            before = self._nodes.pop(name, "")
            if after is not None:
                self._nodes[name] = after.address
            now = self._nodes.get(name, "")
            if before == now or not self._kernel.namespace_alive(self.namespace):
                return
            removed = [self._record(name, before)] if before and not now else []
            added = [self._record(name, now)] if now else []
            self._try(added, removed)

    def settle(self, nodes: Iterable[Node]) -> None:
        """These are all that there are; the kernel may have more, and less: it outlives the daemon."""
        with self._lock:
            self._heard = True
            self._nodes = {node.name: node.address for node in nodes if node.name != self._here}
            if self._kernel.namespace_alive(self.namespace):
                extra, missing = self._differences()
                self._try(missing, extra)

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
        return len(extra) + len(missing)

    def _differences(self) -> tuple[list[RemotePeer], list[RemotePeer]]:
        wanted = [self._record(*item) for item in self._nodes.items()]
        return differences(self._kernel.observe_peers(self.namespace, self.tunnel).peers, wanted)

    def _try(self, added: list[RemotePeer], removed: list[RemotePeer]) -> None:
        try:
            self._kernel.program_peers(self.namespace, self.tunnel, added, removed)
        except CnmError as error:
            log.error("the probe segment: %s; cnmctl doctor --repair tries again", error)

    def _record(self, node: str, end: str) -> RemotePeer:
        return RemotePeer(mac(node), end, (self.address(node),))
