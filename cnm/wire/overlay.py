"""Records of /cnm/v1 about the hosts behind an overlay: the paths to them, and who is where in a network."""

from __future__ import annotations

import msgspec

from cnm.wire.keys import docker_key


class _Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """A record with keys in Docker's style."""


class PingRequest(_Record, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /cnm/v1/cluster/ping; no nodes: all but this one."""

    nodes: list[str] | None = None


class NodePing(_Record, kw_only=True):
    """A node as it was seen from this host; `state` ok, away, silent, blocked, narrow or etcd, `detail` says more.

    Round trip times are milliseconds, 0 where nothing came: over VXLAN, and to the node's address. `mtu` is the biggest
    packet in bytes that passes over VXLAN, `wanted_mtu` the biggest that networks may send.
    """

    name: str
    address: str
    state: str
    rtt: float
    underlay_rtt: float
    mtu: int
    wanted_mtu: int
    detail: str


class NetworkPeer(_Record, kw_only=True):
    """A host with endpoints in a network; `address` is its end of tunnels, "" where the cluster does not see it."""

    name: str
    address: str
    endpoints: int
    alive: bool
    local: bool


class PeerEndpoint(_Record, kw_only=True):
    """An endpoint on some host; addresses bare, "" where there is none; its sandbox's name comes first."""

    id: str = msgspec.field(name="Id")
    node: str
    names: list[str]
    mac_address: str
    ipv4_address: str
    ipv6_address: str


class NetworkPeers(_Record, kw_only=True):
    """Answer of GET /cnm/v1/networks/{network}/peers; `takes_part`: this host has endpoints in it."""

    network: str
    network_id: str = msgspec.field(name="NetworkId")
    takes_part: bool
    peers: list[NetworkPeer]
    endpoints: list[PeerEndpoint] | None
