"""Tunnels in memory: what they were told, and who is reached by which keys, as a test says."""

from __future__ import annotations

import time
from collections.abc import Callable

from cnm.cluster.tunnel_config import OVERHEAD, TunnelConfig, check, interface_name
from cnm.cluster.tunnels import PeerReport
from cnm.encryption import Way
from cnm.errors import CnmError, NotBuilt
from cnm.kernel.state import Group, KernelState, Link, LinkKind
from cnm.kernel.wireguard_records import PeerStatus, WireGuardPeer


class FakeTunnels:
    """Satisfies `cnm.encryption.TunnelsOfNode`; every node is reached by every key that is shared with it."""

    def __init__(self, way: FakeWay, cluster_id: str, node: str) -> None:
        self._way = way
        self._cluster_id, self._node = cluster_id, node
        self.config: TunnelConfig | None = None
        self.is_closed = False
        self.repairs = 0

    def up(self, config: TunnelConfig) -> None:
        self.set(config)

    def set(self, config: TunnelConfig) -> None:
        check(config)
        if self._way.refusal is not None:
            raise self._way.refusal
        if not self._way.able:
            raise NotBuilt("this kernel has no wireguard: load module wireguard, or install wireguard-go")
        self.config = config

    def repair(self) -> None:
        self.repairs += 1

    def close(self) -> None:
        self.is_closed = True
        self.config = None

    def leave(self) -> None:
        pass

    def wanted(self) -> KernelState:
        if self.config is None:
            return KernelState()
        names = [interface_name(self._cluster_id, self._node, end.slot) for end in self.config.ends]
        mtu = self.config.mtu - OVERHEAD
        links = (Link(n, LinkKind.TUN, mtu=mtu, alias="cnm:wireguard", group=Group.TUNNEL) for n in names)
        return KernelState(links=tuple(links))

    def reached(self, generation: int) -> frozenset[str]:
        peers = self.config.peers if self.config else ()
        return frozenset(
            peer.node for peer in peers if generation in [end.generation for end in peer.ends]
        ) - frozenset(self._way.unreached)

    def report(self) -> tuple[PeerReport, ...]:
        if self._way.refusal is not None:
            raise self._way.refusal
        peers = self.config.peers if self.config else ()
        return tuple(
            PeerReport(peer.node, end.generation, True, self._status(peer.node, end.public_key))
            for peer in peers
            for end in peer.ends
        )

    def _status(self, node: str, key: str) -> PeerStatus:
        return PeerStatus(WireGuardPeer(key), 0.0 if node in self._way.silent else time.time())


class FakeWay:
    """One host's: whether it can encrypt, and the tunnels that were made, the newest last."""

    def __init__(self, *, able: bool = False) -> None:
        self.able = able
        self.refusal: CnmError | None = None
        """What is said to everything that is set."""
        self.unreached: set[str] = set()
        """Nodes that packets are not sent to by any keys yet."""
        self.silent: set[str] = set()
        """Nodes that no session is with."""
        self.made: list[FakeTunnels] = []

    @property
    def way(self) -> Way:
        return Way(self._make, lambda: self.able)

    @property
    def config(self) -> TunnelConfig | None:
        """What holds now; None without tunnels."""
        return self.made[-1].config if self.made else None

    def _make(self, cluster_id: str, node: str, moved: Callable[[], None]) -> FakeTunnels:
        self.made.append(FakeTunnels(self, cluster_id, node))
        return self.made[-1]
