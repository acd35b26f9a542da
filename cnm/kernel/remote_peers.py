"""The remote endpoints of a VXLAN device, written in bulk: ten thousand in a fraction of a second.

Each is one forwarding entry, written to the device and to its bridge by one message, and a permanent neighbour for each
address. Messages are packed by hand around what most of them share. Source: linux/neighbour.h, drivers/net/vxlan.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from cnm.errors import KernelError
from cnm.kernel.address_messages import split
from cnm.kernel.link_messages import mac_bytes
from cnm.kernel.neighbor_messages import RTM_DELNEIGH, RTM_NEWNEIGH
from cnm.kernel.netlink import (
    BULK_LONGEST,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NetlinkSocket,
)
from cnm.kernel.state import RemotePeer

_NDA_DST = 1
_NDA_LLADDR = 2
_NUD_STATIC = 0x42
"""NOARP and REACHABLE: a bridge takes a PERMANENT entry for the host's own address."""
_NUD_FLOOD = 0xC0
_NUD_PERMANENT = 0x80
_NTF_SELF = 0x02
_NTF_MASTER = 0x04
_AF_BRIDGE = 7
_EVERYBODY = "00:00:00:00:00:00"

_HEAD = struct.Struct("=IHH")
_NDMSG = struct.Struct("=BxHiHBB")
_ATTRIBUTE = struct.Struct("=HH")
_HEADER_BYTES = 16


_Part = tuple[RemotePeer, str]
"""The neighbour of one of its addresses, or, for "", its forwarding entry."""


class _Packer:
    """Messages of one sort for the link with an index, each cut in two around its sequence number."""

    def __init__(self, index: int, kind: int, flags: int, state: int, targets: int) -> None:
        self._kind, self._flags = kind, NLM_F_REQUEST | flags
        self._forwarding = _NDMSG.pack(_AF_BRIDGE, 0, index, state, targets, 0) + _ATTRIBUTE.pack(
            10, _NDA_LLADDR
        )
        self._neighbor = {
            family: _NDMSG.pack(family, 0, index, _NUD_PERMANENT, 0, 0) + _ATTRIBUTE.pack(4 + size, _NDA_DST)
            for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16))
        }
        self._link_address = _ATTRIBUTE.pack(10, _NDA_LLADDR)
        self._heads: dict[int, bytes] = {}
        self._mac, self._packed_mac = "", b""
        """Of the last one: an endpoint's messages follow one another."""
        self._destinations: dict[str, bytes] = {}
        """By VTEP: there are few of them."""

    def pack(self, peer: RemotePeer, address: str) -> tuple[bytes, bytes]:
        """The neighbour of an address, or the forwarding entry. Raises ValueError or OSError for what is no address."""
        if peer.mac != self._mac:
            self._packed_mac = _mac(peer.mac) + b"\0\0"
            self._mac = peer.mac
        if address:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            packed = socket.inet_pton(family, address)
            tail = self._neighbor[family] + packed + self._link_address + self._packed_mac
        else:
            tail = self._forwarding + self._packed_mac
            if peer.vtep or self._kind != RTM_DELNEIGH:
                tail += self._destinations.get(peer.vtep) or self._destination(peer.vtep)
        return self._heads.get(len(tail)) or self._head(len(tail)), tail

    def _destination(self, vtep: str) -> bytes:
        packed = split(vtep)[1]
        return self._destinations.setdefault(vtep, _ATTRIBUTE.pack(4 + len(packed), _NDA_DST) + packed)

    def _head(self, size: int) -> bytes:
        return self._heads.setdefault(size, _HEAD.pack(_HEADER_BYTES + size, self._kind, self._flags))


def _mac(text: str) -> bytes:
    packed = mac_bytes(text)
    if len(packed) != 6:
        raise ValueError(text)
    return packed


class _Refusals:
    """What was refused, in the order it was found."""

    def __init__(self, link: str) -> None:
        self._link = link
        self._found: list[tuple[RemotePeer, str, int, str]] = []

    def add(self, peer: RemotePeer, address: str, number: int, detail: str = "") -> None:
        self._found.append((peer, address, number, detail))

    def without_forwarding(self) -> list[RemotePeer]:
        return [peer for peer, address, _, _ in self._found if not address]

    def raise_first(self) -> None:
        if not self._found:
            return
        peer, address, number, detail = self._found[0]
        what = f"{address} ({peer.mac})" if address else peer.mac
        why = detail or os.strerror(number).lower()
        others = f", nor {len(self._found) - 1} other entries" if len(self._found) > 1 else ""
        raise KernelError(
            f"cannot set remote endpoint {what} at {peer.vtep or 'no VTEP'} on {self._link}{others}: {why}",
            number,
        )


def program(
    netlink: NetlinkSocket, link: str, index: int, added: Sequence[RemotePeer], removed: Sequence[RemotePeer]
) -> None:
    """See `cnm.kernel.contract.Kernel.program_peers`; `index` is that of `link`, in the namespace of `netlink`."""
    refusals = _Refusals(link)
    _remove(netlink, index, list(_to_remove(removed, added)), refusals)
    packer = _Packer(index, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, _NUD_STATIC, _NTF_SELF | _NTF_MASTER)
    for peer, address, number, detail in _send(netlink, packer, _to_add(added), refusals):
        refusals.add(peer, address, number, detail)
    _take_back(netlink, index, refusals)
    refusals.raise_first()


def flood(
    netlink: NetlinkSocket, link: str, index: int, added: Iterable[str], removed: Iterable[str]
) -> None:
    """See `cnm.kernel.contract.Kernel.flood`."""
    refusals = _Refusals(link)
    away = _Packer(index, RTM_DELNEIGH, 0, _NUD_FLOOD, _NTF_SELF)
    for peer, _, number, detail in _send(netlink, away, _to_all(removed), refusals):
        if number != errno.ENOENT:
            refusals.add(peer, "", number, detail)
    there = _Packer(index, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, _NUD_FLOOD, _NTF_SELF)
    for peer, _, number, detail in _send(netlink, there, _to_all(added), refusals):
        refusals.add(peer, "", number, detail)
    refusals.raise_first()


def _to_add(peers: Iterable[RemotePeer]) -> Iterator[_Part]:
    for peer in peers:
        yield peer, ""
        for address in peer.addresses:
            yield peer, address


def _to_remove(removed: Sequence[RemotePeer], added: Sequence[RemotePeer]) -> Iterator[_Part]:
    """Neighbours first: what is asked for meanwhile is not answered. What is added stays in its place."""
    macs: frozenset[str] = frozenset(peer.mac for peer in added) if removed else frozenset()
    taken = frozenset(address for peer in added for address in peer.addresses) if removed else frozenset()
    for peer in removed:
        for address in peer.addresses:
            if address not in taken:
                yield peer, address
        if peer.mac not in macs:
            yield peer, ""


def _to_all(vteps: Iterable[str]) -> Iterator[_Part]:
    return ((RemotePeer(_EVERYBODY, vtep, ()), "") for vtep in vteps)


def _remove(netlink: NetlinkSocket, index: int, parts: Sequence[_Part], refusals: _Refusals) -> None:
    """Where the bridge has no entry any more the kernel leaves the device's in place: that is removed by itself."""
    halves: list[_Part] = []
    packer = _Packer(index, RTM_DELNEIGH, 0, _NUD_STATIC, _NTF_SELF | _NTF_MASTER)
    for peer, address, number, detail in _send(netlink, packer, parts, refusals):
        if number != errno.ENOENT:
            refusals.add(peer, address, number, detail)
        elif not address:
            halves.append((peer, ""))
    packer = _Packer(index, RTM_DELNEIGH, 0, _NUD_STATIC, _NTF_SELF)
    for peer, _, number, detail in _send(netlink, packer, halves, refusals):
        if number != errno.ENOENT:
            refusals.add(peer, "", number, detail)


def _take_back(netlink: NetlinkSocket, index: int, refusals: _Refusals) -> None:
    """Nothing is left of an endpoint that nothing is forwarded to: no half, no neighbours, and not where it was."""
    unreachable = [peer._replace(vtep="") for peer in refusals.without_forwarding()]
    if unreachable:
        _remove(netlink, index, list(_to_remove(unreachable, ())), _Refusals(""))


def _send(
    netlink: NetlinkSocket, packer: _Packer, parts: Iterable[_Part], refusals: _Refusals
) -> Iterator[tuple[RemotePeer, str, int, str]]:
    """Send all, in batches; (part, errno, the kernel's words) of each that the kernel refused."""
    parts = iter(parts)
    while batch := list(islice(parts, BULK_LONGEST)):
        sent, messages = [], []
        for part in batch:
            try:
                messages.append(packer.pack(*part))
            except (ValueError, OSError):
                refusals.add(*part, errno.EINVAL, "not an address")
            else:
                sent.append(part)
        if messages:
            for position, number, detail in netlink.send_bulk(messages):
                yield *sent[position], number, detail
