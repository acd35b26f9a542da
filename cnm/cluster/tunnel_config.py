"""What tunnels are to be there, as data: this node's keys, the other nodes and theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cnm.cluster.records import Node
from cnm.cluster.wireguard_keys import SLOTS, public_key
from cnm.errors import InvalidParameter
from cnm.kernel.wireguard_records import key_bytes, split_checked

OVERHEAD = 80
"""Bytes that a tunnel adds to a packet, at most: IPv6 40, UDP 8, WireGuard 32."""
GENERATIONS = 1 << 20
"""Keys have lower numbers than this."""
_LEAST_IPV6_MTU = 1280
"""RFC 8200."""


@dataclass(frozen=True, slots=True)
class OwnEnd:
    """A key of this node, and where it listens. `slot` (0 or 1) tells its interface from that of another generation."""

    generation: int
    slot: int
    private_key: str = field(repr=False)
    port: int


@dataclass(frozen=True, slots=True)
class TunnelEnd:
    """A key of another node, and where it listens."""

    generation: int
    public_key: str
    port: int


@dataclass(frozen=True, slots=True)
class TunnelPeer:
    """Another node; `address` is where its datagrams go, `transport` what it is called inside. Bare addresses."""

    node: str
    address: str
    transport: str
    ends: tuple[TunnelEnd, ...]


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """`transport` is this node's own address (bare) in `pool` (CIDR text); `mtu` is the underlay's, in bytes.

    There are two `ends` while keys are being replaced. Ends of the same generation speak with each other.
    """

    transport: str
    pool: str
    mtu: int
    ends: tuple[OwnEnd, ...]
    peers: tuple[TunnelPeer, ...] = ()


def tunnel_peer(record: Node, registered: str) -> TunnelPeer | None:
    """None for a node that cannot encrypt, or announces another transport address than the `registered` one.

    A node writes its own record: only what a member wrote at its enrolment says which address is its own.
    """
    if not record.transport or not record.wireguard_key or record.transport != registered:
        return None
    ends = [TunnelEnd(record.wireguard_generation, record.wireguard_key, record.wireguard_port)]
    if record.next_wireguard_key:
        ends.append(
            TunnelEnd(record.next_wireguard_generation, record.next_wireguard_key, record.next_wireguard_port)
        )
    return TunnelPeer(record.name, record.address, record.transport, tuple(ends))


def with_peers(
    config: TunnelConfig, peers: Sequence[TunnelPeer], before: Sequence[TunnelPeer]
) -> tuple[TunnelConfig, list[str]]:
    """`config` with those of `peers` that go together, those that were there `before` first; and why others do not."""
    whole = replace(config, peers=tuple(peers))
    try:
        check(whole)
        return whole, []
    except InvalidParameter:
        fitting, wrong = replace(config, peers=()), []
    check(fitting)
    for peer in sorted(peers, key=lambda peer: (peer not in before, peer.node)):
        more = replace(fitting, peers=(*fitting.peers, peer))
        try:
            check(more)
            fitting = more
        except InvalidParameter as error:
            wrong.append(f"there is no tunnel to node {peer.node}: {error}")
    return fitting, wrong


def interface_name(cluster_id: str, node: str, slot: int) -> str:
    """Other than that of any other daemon of this machine: sockets of wireguard-go are called by it."""
    return f"cw{hashlib.sha256(f'{cluster_id}/{node}'.encode()).hexdigest()[:11]}{slot}"


def check(config: TunnelConfig) -> None:
    """Raises InvalidParameter for what could not be set."""
    _check_own(config)
    own = (config.transport, *(public_key(end.private_key) for end in config.ends))
    owners = dict.fromkeys(own, "this node")
    for peer in config.peers:
        _check_family(config, peer.transport)
        check_peer(peer)
        for owned in (peer.transport, *(their.public_key for their in peer.ends)):
            if owned in owners:
                raise InvalidParameter(f"node {peer.node} has {owned} of {owners[owned]}: enrol it anew")
            owners[owned] = f"node {peer.node}"


def check_peer(peer: TunnelPeer) -> None:
    """By itself. Raises InvalidParameter."""
    split_checked(peer.address)
    for their in peer.ends:
        key_bytes(their.public_key)
        if not (0 < their.port < 65536 and 0 < their.generation < GENERATIONS):
            raise InvalidParameter(
                f"node {peer.node} announces port {their.port}, and generation {their.generation} of keys"
            )


def _check_own(config: TunnelConfig) -> None:
    ends = config.ends
    slots, generations = {end.slot for end in ends}, {end.generation for end in ends}
    if not ends or min(len(slots), len(generations)) < len(ends):
        raise InvalidParameter("tunnels need one key, or two with slots and generations of their own")
    if not slots <= set(SLOTS):
        raise InvalidParameter(f"slots of keys are {SLOTS[0]} and {SLOTS[1]}")
    for end in ends:
        key_bytes(end.private_key)
    _check_family(config, config.pool)
    if ":" in config.transport and config.mtu - OVERHEAD < _LEAST_IPV6_MTU:
        raise InvalidParameter(
            f"an MTU of {config.mtu} leaves no {_LEAST_IPV6_MTU} bytes for IPv6 inside tunnels: raise it, or take "
            "IPv4 transport addresses"
        )


def _check_family(config: TunnelConfig, address: str) -> None:
    if split_checked(address)[0] != split_checked(config.transport)[0]:
        raise InvalidParameter(f"{address} is of another family than transport address {config.transport}")
