"""A WireGuard interface of this host: its link, the process behind it where the kernel has none, key and peers."""

from __future__ import annotations

import errno
import logging
import shutil
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from cnm.cluster.wireguard_go import WireGuardGo
from cnm.errors import CnmError, Conflict, KernelError, NotBuilt, Unavailable
from cnm.kernel.contract import Kernel
from cnm.kernel.diff import is_ours
from cnm.kernel.state import Group, KernelState, Link, LinkKind
from cnm.kernel.wireguard import Device
from cnm.kernel.wireguard_netlink import KernelDevice
from cnm.kernel.wireguard_records import DeviceChange, WireGuardDevice, WireGuardPeer
from cnm.kernel.wireguard_uapi import UserspaceDevice

log = logging.getLogger("cnm.wireguard")

_KINDS = (LinkKind.WIREGUARD, LinkKind.TUN)
_NOTHING = DeviceChange()


class TunnelInterface:
    """Not thread-safe: the owner serialises. `died` is called in a thread of its own, see `WireGuardGo`."""

    def __init__(self, name: str, alias: str, kernel: Kernel, program: str, died: Callable[[], None]) -> None:
        self.name = name
        self._alias = alias
        self._kernel = kernel
        self._program = program
        self._died = died
        self._process = WireGuardGo(name, program, died)
        self._kind: LinkKind | None = None
        self._is_gone = False
        """It was taken down, so that there is nothing to look for."""
        self._key = ""
        self._port = 0
        self._peers: dict[str, WireGuardPeer] = {}
        """What the device was told by this object, or had when it was found; an endpoint may be another by now."""
        self._state = KernelState()
        """What is on the link, as far as it is ours."""

    @property
    def pid(self) -> int:
        """Of the process behind it; 0 where there is none."""
        return self._process.pid

    def bring_up(self, mtu: int, state: KernelState) -> None:
        """The link, and the process behind it; what an earlier daemon left is taken up.

        `state` is what it is to `carry`. Raises NotBuilt where there is neither a kernel's nor a program's WireGuard.
        """
        self._is_gone = False
        unknown = self._kind is None
        if self._kind is None:
            self._kind = self._find(state) or self._create(mtu)
        self._apply_link(self._kind, mtu)
        if self._kind is LinkKind.TUN and self._process.start():
            self._settle(self._kind, mtu, state)
            unknown = True
        if unknown:
            try:
                self._learn()
            except Unavailable as error:
                self._replace_process(error, mtu, state)
                self._learn()

    def _replace_process(self, error: Unavailable, mtu: int, state: KernelState) -> None:
        """It runs, and does not answer."""
        if self._kind is not LinkKind.TUN:
            raise error
        log.warning("%s: its process is replaced", error)
        self._process.end(signal.SIGKILL)
        self._process.start()
        self._settle(self._kind, mtu, state)

    def _settle(self, kind: LinkKind, mtu: int, state: KernelState) -> None:
        """After a start of the process, which has set an MTU of its own."""
        self._apply_link(kind, mtu)
        self._find(state)

    def forget(self) -> None:
        """What is known of it may not be so any more: it is looked at when it is brought up the next time."""
        self._kind = None

    def _find(self, state: KernelState) -> LinkKind | None:
        asked = replace(state, links=(self.wanted_link(0),))
        observed = self._kernel.observe([asked])[0]
        link = next((link for link in observed.links if link.name == self.name), None)
        if link is None or not is_ours(link) or link.kind not in _KINDS:
            self._state = KernelState()
            return None
        self._state = KernelState(
            addresses=tuple(a for a in observed.addresses if a.link == self.name),
            routes=tuple(r for r in observed.routes if r.link == self.name),
        )
        return link.kind

    def _create(self, mtu: int) -> LinkKind:
        try:
            self._apply_link(LinkKind.WIREGUARD, mtu)
            return LinkKind.WIREGUARD
        except NotBuilt as error:
            if shutil.which(self._program) is None:
                raise NotBuilt(f"{error}, or install wireguard-go") from None
            log.info("%s: %s serves it", error, self._program)
        self._apply_link(LinkKind.TUN, mtu)
        return LinkKind.TUN

    def _apply_link(self, kind: LinkKind, mtu: int) -> None:
        self._kernel.apply([KernelState(links=(self._link(kind, mtu),))])

    def _learn(self) -> None:
        """What the device has, new or found, is what changes are made from."""
        found = self.read()
        self._key, self._port = found.private_key, found.listen_port
        self._peers = {key: status.peer for key, status in found.peers.items()}

    def configure(
        self, private_key: str, port: int, peers: Mapping[str, WireGuardPeer], keep: Iterable[str]
    ) -> None:
        """Exactly `peers` (by public key), and those of the public keys in `keep` that there are already."""
        if private_key != self._key:  # no session outlives that, and new peers are spoken to at once
            self._change(DeviceChange(private_key, port, tuple(peers.values()), replace=True))
            self._key, self._port, self._peers = private_key, port, dict(peers)
            return
        kept = frozenset(keep)
        gone = tuple(key for key in self._peers if key not in peers and key not in kept)
        changed = tuple(peer for key, peer in peers.items() if self._peers.get(key) != peer)
        change = DeviceChange(None, port if port != self._port else None, changed, gone)
        if change == _NOTHING:
            return
        self._change(change)
        self._port = port
        for key in gone:
            del self._peers[key]
        self._peers.update({peer.public_key: peer for peer in changed})

    def _change(self, change: DeviceChange) -> None:
        try:
            self._device.change(change)
        except KernelError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Conflict(
                f"UDP port {change.listen_port} of this host is in use by another program: end that, or have cnm use "
                "others with the setting wireguard-port"
            ) from None

    def peers_at(self, addresses: Collection[str]) -> tuple[str, ...]:
        """The public keys of the peers that one of these bare addresses belongs to."""
        return tuple(
            key
            for key, peer in self._peers.items()
            if any(cidr.partition("/")[0] in addresses for cidr in peer.allowed_ips)
        )

    def carry(self, state: KernelState) -> None:
        """Exactly the addresses, routes and sysctls of `state`; what comes is there before what goes is away."""
        self._kernel.apply([_without(state, self._state)])
        self._kernel.remove([replace(_without(self._state, state), sysctls=())])
        self._state = state

    def read(self) -> WireGuardDevice:
        return self._device.read()

    def take_down(self) -> None:
        """Nothing is left. Raises the first error when everything was tried."""
        if self._is_gone:
            return
        errors: list[CnmError] = []
        for step in (self._process.end, self._remove_link):
            try:
                step()
            except CnmError as error:
                errors.append(error)
        self._kind, self._key, self._port, self._peers = None, "", 0, {}
        self._state = KernelState()
        if errors:
            raise errors[0]
        self._is_gone = True

    def stop_watching(self) -> None:
        """It carries packets on, and nobody looks after it."""
        self._process.stop_watching()

    def wanted_link(self, mtu: int) -> Link:
        """As it is made on this host."""
        return self._link(self._kind or LinkKind.WIREGUARD, mtu)

    def _remove_link(self) -> None:
        self._kernel.remove([KernelState(links=(self._link(LinkKind.TUN, 0),))], wait=True)

    def _link(self, kind: LinkKind, mtu: int) -> Link:
        return Link(self.name, kind, mtu=mtu, alias=self._alias, group=Group.TUNNEL)

    @property
    def _device(self) -> Device:
        return KernelDevice(self.name) if self._kind is LinkKind.WIREGUARD else UserspaceDevice(self.name)


def _without(state: KernelState, other: KernelState) -> KernelState:
    """What is on links in `state`, and not in `other`; with the sysctls."""
    routes = frozenset(other.routes)
    return KernelState(
        addresses=tuple(a for a in state.addresses if a not in other.addresses),
        routes=tuple(r for r in state.routes if r not in routes),
        sysctls=state.sysctls,
    )
