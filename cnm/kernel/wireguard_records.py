"""WireGuard devices as data: what they are set to, and how their peers fare. Keys are base64 as wg(8) writes them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cnm.errors import InvalidParameter
from cnm.kernel.address_messages import split

KEY_BYTES = 32

Endpoint = tuple[str, int]
"""Bare address text and UDP port."""


@dataclass(frozen=True, slots=True)
class WireGuardPeer:
    """What a device knows a peer by."""

    public_key: str
    endpoint: Endpoint | None = None
    """None: it is known when the peer speaks first."""
    allowed_ips: tuple[str, ...] = ()
    """CIDR texts: what it may send from, and what is sent to it. One of them belongs to one peer of a device."""
    keepalive: int = 0
    """Seconds between signs of life where nothing else is sent; 0: none."""
    preshared_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer as the device has it; its endpoint is where it spoke from last."""

    peer: WireGuardPeer
    last_handshake: float = 0.0
    """Seconds since the epoch; 0: there was none."""
    received: int = 0
    sent: int = 0
    """Bytes."""


@dataclass(frozen=True, slots=True)
class WireGuardDevice:
    """A device as it is; `peers` by public key."""

    name: str
    private_key: str = field(default="", repr=False)
    listen_port: int = 0
    peers: dict[str, PeerStatus] = field(default_factory=dict)


class DeviceChange(NamedTuple):
    """What is to become of a device: None is left as it is."""

    private_key: str | None = None
    listen_port: int | None = None
    peers: Sequence[WireGuardPeer] = ()
    """To be added, or changed to exactly this; the sessions of those that exist go on."""
    remove: Sequence[str] = ()
    """Public keys of peers to be removed before that; unknown ones are fine."""
    replace: bool = False
    """Peers that are not in `peers` go, and the sessions of all others end."""


def split_checked(cidr: str) -> tuple[int, bytes, int]:
    """(address family, packed address, prefix length). Raises InvalidParameter."""
    try:
        return split(cidr)
    except (OSError, ValueError):
        raise InvalidParameter(f"{cidr} is neither an address nor a subnet") from None


def key_bytes(key: str) -> bytes:
    """Raises InvalidParameter, which does not repeat what may be a secret."""
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise InvalidParameter("a WireGuard key is 32 bytes in base64: make one with wg genkey")
    return raw
