"""The remote endpoints of one VXLAN device of the fake kernel."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence

from cnm.errors import KernelError
from cnm.kernel.state import ObservedPeers, RemotePeer

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


class FakePeers:
    """Forwarding entries of the device and of its bridge, neighbours, and whom everything is copied to."""

    def __init__(self, link: str) -> None:
        self._link = link
        self._vteps: dict[str, str] = {}
        self._bridged: set[str] = set()
        self._macs: dict[str, str] = {}
        self._flood: dict[str, None] = {}

    def leave_bridge(self) -> None:
        self._bridged.clear()

    def program(self, added: Sequence[RemotePeer], removed: Sequence[RemotePeer]) -> None:
        self._remove(removed)
        refused = list(self._add(added))
        self._remove([peer._replace(vtep="") for peer, address in refused if not address])
        self._raise(refused)

    def _remove(self, removed: Iterable[RemotePeer]) -> None:
        for peer in removed:
            for address in peer.addresses:
                self._macs.pop(address, None)
            if peer.vtep in ("", self._vteps.get(peer.mac)):
                self._vteps.pop(peer.mac, None)
            self._bridged.discard(peer.mac)

    def _add(self, added: Iterable[RemotePeer]) -> Iterator[tuple[RemotePeer, str]]:
        """What is no address: (peer, address that it is about)."""
        for peer in added:
            if not _MAC.match(peer.mac) or not _is_address(peer.vtep):
                yield peer, ""
            else:
                self._vteps[peer.mac] = peer.vtep
                self._bridged.add(peer.mac)
            for address in peer.addresses:
                if not _MAC.match(peer.mac) or not _is_address(address):
                    yield peer, address
                else:
                    self._macs[address] = peer.mac

    def change_flood(self, added: Iterable[str], removed: Iterable[str]) -> None:
        for vtep in removed:
            self._flood.pop(vtep, None)
        self._flood.update(dict.fromkeys(filter(_is_address, added)))
        self._raise(
            [(RemotePeer("00:00:00:00:00:00", vtep, ()), "") for vtep in added if not _is_address(vtep)]
        )

    def observed(self) -> ObservedPeers:
        macs = {**self._vteps, **dict.fromkeys(self._bridged), **dict.fromkeys(self._macs.values())}
        return ObservedPeers(tuple(map(self._peer, macs)), tuple(self._flood))

    def _peer(self, mac: str) -> RemotePeer:
        addresses = sorted((a for a, at in self._macs.items() if at == mac), key=lambda a: ":" in a)
        return RemotePeer(mac, self._vteps.get(mac, "") if mac in self._bridged else "", tuple(addresses))

    def _raise(self, refused: Sequence[tuple[RemotePeer, str]]) -> None:
        if refused:
            peer, address = refused[0]
            others = f", nor {len(refused) - 1} other entries" if len(refused) > 1 else ""
            what = f"{address} ({peer.mac})" if address else peer.mac
            raise KernelError(
                f"cannot set remote endpoint {what} at {peer.vtep or 'no VTEP'} on {self._link}{others}: not an address"
            )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
