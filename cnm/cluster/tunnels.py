"""The WireGuard tunnels between this host and the other nodes of its cluster, as one value that is set again and again.

A packet to a node's transport address goes by a tunnel or not at all: the route of the whole transport pool leads to
our interfaces, which know nobody that is not in the configuration. While keys are being replaced
(`cnm.cluster.wireguard_keys`) there are two interfaces, and each node's own route leads to the newest that a session
with it is on; both interfaces have the host's transport address, and take packets in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cnm.cluster.tunnel_config import (
    GENERATIONS,
    OVERHEAD,
    OwnEnd,
    TunnelConfig,
    TunnelEnd,
    TunnelPeer,
    check,
    interface_name,
)
from cnm.cluster.tunnel_interface import TunnelInterface
from cnm.cluster.wireguard_keys import SLOTS
from cnm.errors import CnmError, KernelError
from cnm.kernel.address_messages import split
from cnm.kernel.contract import Kernel
from cnm.kernel.state import Address, KernelState, Route, Sysctl
from cnm.kernel.wireguard_records import PeerStatus, WireGuardDevice, WireGuardPeer
from cnm.sidecar.packets import namespace_identity

log = logging.getLogger("cnm.wireguard")

_KEEPALIVE_SECONDS = 25
"""Also has a session begin at once, not with the first packet."""
_DEAD_SECONDS = 180.0
"""WireGuard uses no session that is older (REJECT_AFTER_TIME)."""
_NEWEST_METRIC = GENERATIONS
"""Of generation 0; each later one is preferred to those before."""
_LOOK_SECONDS, _LATER_LOOK_SECONDS, _PATIENCE_SECONDS = 0.1, 2.0, 10.0
"""Between looks for sessions on a new interface: at first, and after so long."""


class PeerReport(NamedTuple):
    """How it stands with a node on one generation of keys; `carries`: packets to it go that way."""

    node: str
    generation: int
    carries: bool
    status: PeerStatus


class Tunnels:
    """Of one node, in the network namespace of the thread that makes it. Thread-safe.

    `moved` is called, in a thread of its own and without a lock, when `reached` has changed by itself. It never raises.
    """

    def __init__(
        self,
        cluster_id: str,
        node: str,
        kernel: Kernel,
        *,
        program: str = "wireguard-go",
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """`program` serves the interfaces where the kernel has no WireGuard: a name found in PATH, or a path."""
        self._home = namespace_identity()
        self._moved = moved
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._config: TunnelConfig | None = None
        self._is_so = False
        """Everything is as the configuration says."""
        self._ready: dict[int, set[str]] = {}
        """By generation: the nodes that packets are sent to that way."""
        self._since = 0.0
        self._work = threading.Event()
        self._interfaces = {
            slot: TunnelInterface(
                interface_name(cluster_id, node, slot),
                f"cnm:wireguard:{cluster_id}",
                kernel,
                program,
                self._recover,
            )
            for slot in SLOTS
        }
        self._watcher = threading.Thread(target=self._look, name="tunnels", daemon=True)

    def up(self, config: TunnelConfig) -> None:
        """Take up what an earlier daemon left, sweep what is of no use any more, and `set`."""
        with self._lock:
            self._watcher.start()
            self.set(config)

    def set(self, config: TunnelConfig) -> None:
        """Make everything so; the same value again does nothing. Sessions of what stays go on.

        Raises InvalidParameter, changing nothing; NotBuilt where this host cannot encrypt; Conflict where an
        interface's name is taken; KernelError, Unavailable.
        """
        check(config)
        with self._lock:
            if config != self._config or not self._is_so:
                self._make_so_locked(config)

    def repair(self) -> None:
        """Make everything so again, whatever became of it. Raises as `set` does."""
        with self._lock:
            if self._config is not None and not self._closing.is_set():
                for interface in self._interfaces.values():
                    interface.forget()
                self._make_so_locked(self._config)

    def close(self) -> None:
        """Encryption is no longer needed: nothing is left. Raises the first error when everything was tried."""
        self.leave()
        errors = []
        with self._lock:
            self._config, self._is_so = None, False
            for interface in self._interfaces.values():
                try:
                    interface.take_down()
                except CnmError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def leave(self) -> None:
        """The daemon ends: packets go on, and the next one takes everything up."""
        for interface in self._interfaces.values():
            interface.stop_watching()
        self._closing.set()
        self._work.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def wanted(self) -> KernelState:
        """What must exist in the host's namespace for the configuration that was set last."""
        with self._lock:
            if self._config is None:
                return KernelState()
            states = [self._state_locked(self._config, end) for end in self._config.ends]
            links = (
                self._interfaces[end.slot].wanted_link(self._config.mtu - OVERHEAD)
                for end in self._config.ends
            )
            return KernelState(
                links=tuple(links),
                addresses=tuple(a for s in states for a in s.addresses),
                routes=tuple(r for s in states for r in s.routes),
                sysctls=tuple(y for s in states for y in s.sysctls),
            )

    def reached(self, generation: int) -> frozenset[str]:
        """The nodes that packets are sent to by this generation of keys."""
        with self._lock:
            return frozenset(self._ready.get(generation, ()))

    def processes(self) -> tuple[int, ...]:
        """Those that serve the interfaces, where the kernel does not."""
        return tuple(interface.pid for interface in self._interfaces.values() if interface.pid)

    def report(self) -> tuple[PeerReport, ...]:
        """Of every node on every generation that it shares with this one. Raises as reading an interface does."""
        with self._lock:
            config = self._config
            if config is None:
                return ()
            return tuple(
                PeerReport(
                    peer.node, end.generation, self._way_locked(config, peer) == end.generation, status
                )
                for end in config.ends
                for device in (self._interfaces[end.slot].read(),)
                for peer in config.peers
                for status in _statuses(device, peer, end.generation)
            )

    # Under the lock

    def _make_so_locked(self, config: TunnelConfig) -> None:
        if namespace_identity() != self._home:
            raise KernelError("tunnels are not set: this thread is not in the daemon's network namespace")
        self._config, self._is_so = config, False
        self._ready = {end.generation: self._ready.get(end.generation, set()) for end in config.ends}
        used = {end.slot for end in config.ends}
        for end in config.ends:
            self._set_interface_locked(config, end)
        self._look_locked(config)
        for end in config.ends:
            self._interfaces[end.slot].carry(self._state_locked(config, end))
        for slot in SLOTS:
            if slot not in used:
                self._interfaces[slot].take_down()
        self._is_so, self._since = True, time.monotonic()
        self._work.set()

    def _set_interface_locked(self, config: TunnelConfig, end: OwnEnd) -> None:
        interface = self._interfaces[end.slot]
        interface.bring_up(config.mtu - OVERHEAD, self._pool_state_locked(config, end))
        peers = {
            their.public_key: _peer(peer, their)
            for peer in config.peers
            for their in peer.ends
            if their.generation == end.generation
        }
        # What such a node sent before it stopped using its old key may still be on its way.
        old = end.generation < max(own.generation for own in config.ends)
        keep = interface.peers_at({peer.transport for peer in config.peers}) if old else ()
        interface.configure(end.private_key, end.port, peers, keep)

    def _look_locked(self, config: TunnelConfig) -> bool:
        """Find out which nodes are reached by which generation; whether that has changed."""
        before = {generation: frozenset(nodes) for generation, nodes in self._ready.items()}
        devices = [
            (end.generation, self._interfaces[end.slot].read())
            for end in sorted(config.ends, key=lambda end: end.generation)
        ]
        for number, (generation, device) in enumerate(devices):
            older = dict(devices[:number])
            ready = self._ready[generation]
            ready &= {peer.node for peer in config.peers if _end_of(peer, generation)}
            ready |= {
                peer.node
                for peer in config.peers
                if peer.node not in ready and _is_ready(peer, generation, device, older)
            }
        return before != {generation: frozenset(nodes) for generation, nodes in self._ready.items()}

    def _pool_state_locked(self, config: TunnelConfig, end: OwnEnd) -> KernelState:
        name = self._interfaces[end.slot].name
        width, family = (128, "ipv6") if ":" in config.transport else (32, "ipv4")
        # Answers may come by the other interface than questions left by.
        sysctl = ("disable_ipv6", "0") if family == "ipv6" else ("rp_filter", "2")
        return KernelState(
            addresses=(Address(name, f"{config.transport}/{width}"),),
            routes=(Route(config.pool, name, metric=_NEWEST_METRIC - end.generation),),
            sysctls=(Sysctl(f"net/{family}/conf/{name}/{sysctl[0]}", sysctl[1]),),
        )

    def _state_locked(self, config: TunnelConfig, end: OwnEnd) -> KernelState:
        state = self._pool_state_locked(config, end)
        (pool,) = state.routes
        width = 128 if ":" in config.transport else 32
        ready = self._ready.get(end.generation, set())
        own = tuple(
            Route(f"{peer.transport}/{width}", pool.link, metric=pool.metric)
            for peer in config.peers
            if peer.node in ready
        )
        return KernelState(addresses=state.addresses, routes=(pool, *own), sysctls=state.sysctls)

    def _way_locked(self, config: TunnelConfig, peer: TunnelPeer) -> int:
        """The generation that packets to a node go by, -1 for none."""
        return max(
            (end.generation for end in config.ends if peer.node in self._ready[end.generation]), default=-1
        )

    def _is_settled_locked(self, config: TunnelConfig) -> bool:
        """Whether every node is reached by the newest generation that it shares with this one."""
        own = {end.generation for end in config.ends}
        for peer in config.peers:
            shared = own & {end.generation for end in peer.ends}
            if shared and peer.node not in self._ready[max(shared)]:
                return False
        return True

    # In threads of their own

    def _recover(self) -> None:
        """A process has died."""
        began = time.monotonic()
        self.repair()
        log.info("tunnels are back after %.0f ms", 1000 * (time.monotonic() - began))

    def _look(self) -> None:
        while not self._closing.is_set():
            self._work.wait()
            self._work.clear()
            pause = 0.0
            while not self._closing.wait(pause):
                with self._lock:
                    config = self._config
                    if config is None or not self._is_so or self._is_settled_locked(config):
                        break
                    changed = self._advance_locked(config)
                    late = time.monotonic() > self._since + _PATIENCE_SECONDS
                if changed:
                    self._moved()
                pause = _LATER_LOOK_SECONDS if late else _LOOK_SECONDS

    def _advance_locked(self, config: TunnelConfig) -> bool:
        try:
            if not self._look_locked(config):
                return False
            for end in config.ends:
                self._interfaces[end.slot].carry(self._state_locked(config, end))
        except CnmError as error:
            log.error("%s", error)
            return False
        return True


def _peer(peer: TunnelPeer, end: TunnelEnd) -> WireGuardPeer:
    return WireGuardPeer(
        end.public_key, (peer.address, end.port), (_alone(peer.transport),), keepalive=_KEEPALIVE_SECONDS
    )


def _alone(address: str) -> str:
    """The CIDR text of one address."""
    return f"{address}/{8 * len(split(address)[1])}"


def _end_of(peer: TunnelPeer, generation: int) -> TunnelEnd | None:
    return next((end for end in peer.ends if end.generation == generation), None)


def _statuses(device: WireGuardDevice, peer: TunnelPeer, generation: int) -> list[PeerStatus]:
    """One, or none."""
    end = _end_of(peer, generation)
    status = device.peers.get(end.public_key) if end else None
    return [status] if status else []


def _is_ready(
    peer: TunnelPeer, generation: int, device: WireGuardDevice, older: Mapping[int, WireGuardDevice]
) -> bool:
    """Whether no packet to a node is lost by this generation: there is a session on it, or on no other."""
    own = _statuses(device, peer, generation)
    if not own or own[0].last_handshake:
        return bool(own)
    before = [status for g, d in older.items() for status in _statuses(d, peer, g)]
    return all(status.last_handshake < time.time() - _DEAD_SECONDS for status in before)
