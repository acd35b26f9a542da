"""The remote endpoints that a VXLAN device has entries for, read in bulk: ten thousand in a fraction of a second."""

from __future__ import annotations

import socket
from collections import defaultdict
from functools import cache

from cnm.kernel import neighbor_messages
from cnm.kernel.link_messages import mac_text
from cnm.kernel.netlink import NetlinkSocket
from cnm.kernel.state import ObservedPeers, RemotePeer

_EVERYBODY = bytes(6)


def observe(netlink: NetlinkSocket, index: int) -> ObservedPeers:
    """See `cnm.kernel.contract.Kernel.observe_peers`; `index` is the device's, in the namespace of `netlink`."""
    vteps, bridged, flood = _forwarding(netlink, index)
    neighbors = _neighbors(netlink, index)
    peers = tuple(
        RemotePeer(
            mac_text(mac),
            vteps.get(mac, "") if mac in bridged else "",
            tuple(neighbors.get(mac, ())),
        )
        for mac in {**vteps, **dict.fromkeys(bridged), **dict.fromkeys(neighbors)}
    )
    return ObservedPeers(peers, tuple(flood))


def _forwarding(netlink: NetlinkSocket, index: int) -> tuple[dict[bytes, str], set[bytes], list[str]]:
    """VTEPs by MAC, the MACs that the bridge knows there, and the VTEPs of everybody."""
    vteps: dict[bytes, str] = {}
    bridged: set[bytes] = set()
    flood: list[str] = []
    text = cache(_address)
    for message in netlink.dump(neighbor_messages.list_fdb(index)):
        parsed = neighbor_messages.parse_static(message)
        if parsed is None:
            continue
        mac, vtep = parsed
        if not vtep:
            bridged.add(mac)
        elif mac == _EVERYBODY:
            flood.append(text(vtep))
        else:
            vteps[mac] = text(vtep)
    return vteps, bridged, flood


def _neighbors(netlink: NetlinkSocket, index: int) -> dict[bytes, list[str]]:
    """Addresses by MAC, those of IPv4 first."""
    found: dict[bytes, list[str]] = defaultdict(list)
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in netlink.dump(neighbor_messages.list_family(family, index)):
            parsed = neighbor_messages.parse_permanent(message)
            if parsed is not None:
                found[parsed[0]].append(_address(parsed[1]))
    return found


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
