"""WireGuard devices of the kernel: generic netlink messages and their decoder. Source: linux/wireguard.h."""

from __future__ import annotations

import base64
import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from cnm.errors import KernelError, NotBuilt, NotFound
from cnm.kernel import generic_netlink
from cnm.kernel.netlink import (
    Message,
    NetlinkError,
    NetlinkSocket,
    Request,
    attribute,
    attributes,
    elements,
    nested,
    text,
    u32,
)
from cnm.kernel.wireguard_records import (
    KEY_BYTES,
    DeviceChange,
    Endpoint,
    PeerStatus,
    WireGuardDevice,
    WireGuardPeer,
    key_bytes,
    split_checked,
)

FAMILY = "wireguard"
_VERSION = 1
_GET_DEVICE, _SET_DEVICE = 0, 1

_IFNAME, _PRIVATE_KEY, _FLAGS, _LISTEN_PORT, _PEERS = 2, 3, 5, 6, 8
_REPLACE_PEERS = 1
_PEER_PUBLIC_KEY, _PEER_PRESHARED_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE = 1, 2, 3, 4, 5
_PEER_LAST_HANDSHAKE, _PEER_RECEIVED, _PEER_SENT, _PEER_ALLOWED_IPS = 6, 7, 8, 9
_REMOVE_ME, _REPLACE_ALLOWED_IPS = 1, 2
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_LENGTH = 1, 2, 3

_NO_KEY = bytes(KEY_BYTES)
_PEERS_A_MESSAGE = 200
"""The length of an attribute has 16 bits; a peer with a few allowed addresses takes some 150 bytes."""

_U16 = struct.Struct("=H")
_U64 = struct.Struct("=Q")
_TIMESPEC = struct.Struct("=qq")
_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6 = struct.Struct("!2xHI16s4x")
_FAMILY = struct.Struct("=H")


def is_in_kernel() -> bool:
    """Whether this kernel has WireGuard, or a module of it that is loaded by the question."""
    with NetlinkSocket(generic_netlink.NETLINK_GENERIC) as netlink:
        try:
            generic_netlink.family(netlink, FAMILY)
        except NotBuilt:
            return False
    return True


class KernelDevice:
    """A device of the namespace that the calling thread is in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def change(self, change: DeviceChange) -> None:
        with NetlinkSocket(generic_netlink.NETLINK_GENERIC) as netlink:
            family = generic_netlink.family(netlink, FAMILY)
            try:
                netlink.execute(list(set_requests(family, self.name, change)))
            except NetlinkError as error:
                raise _explained(error, self.name) from None

    def read(self) -> WireGuardDevice:
        with NetlinkSocket(generic_netlink.NETLINK_GENERIC) as netlink:
            family = generic_netlink.family(netlink, FAMILY)
            try:
                return parse(netlink.dump(get_request(family, self.name)))
            except NetlinkError as error:
                raise _explained(error, self.name) from None


def _explained(error: NetlinkError, name: str) -> KernelError | NotFound:
    if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
        return NotFound(f"there is no WireGuard interface {name}")
    return error


def get_request(family: int, name: str) -> Request:
    payload = generic_netlink.HEADER.pack(_GET_DEVICE, _VERSION) + text(_IFNAME, name)
    return Request(family, 0, payload, f"read WireGuard interface {name}")


def set_requests(family: int, name: str, change: DeviceChange) -> Iterator[Request]:
    """In order; only the first may replace peers. Raises InvalidParameter for a key or an address that is none."""
    peers = [_removed(key) for key in change.remove] + [_peer(peer) for peer in change.peers]
    own = [text(_IFNAME, name)]
    if change.private_key is not None:
        own.append(attribute(_PRIVATE_KEY, key_bytes(change.private_key)))
    if change.listen_port is not None:
        own.append(attribute(_LISTEN_PORT, _U16.pack(change.listen_port)))
    if change.replace:
        own.append(u32(_FLAGS, _REPLACE_PEERS))
    yield _set_request(family, name, own, peers[:_PEERS_A_MESSAGE])
    for first in range(_PEERS_A_MESSAGE, len(peers), _PEERS_A_MESSAGE):
        yield _set_request(family, name, [text(_IFNAME, name)], peers[first : first + _PEERS_A_MESSAGE])


def _set_request(family: int, name: str, own: Sequence[bytes], peers: Sequence[bytes]) -> Request:
    parts = [generic_netlink.HEADER.pack(_SET_DEVICE, _VERSION), *own]
    if peers:
        parts.append(nested(_PEERS, *peers))
    return Request(family, 0, b"".join(parts), f"set WireGuard interface {name}")


def _removed(public_key: str) -> bytes:
    return nested(0, attribute(_PEER_PUBLIC_KEY, key_bytes(public_key)), u32(_PEER_FLAGS, _REMOVE_ME))


def _peer(peer: WireGuardPeer) -> bytes:
    parts = [
        attribute(_PEER_PUBLIC_KEY, key_bytes(peer.public_key)),
        attribute(_PEER_PRESHARED_KEY, key_bytes(peer.preshared_key) if peer.preshared_key else _NO_KEY),
        u32(_PEER_FLAGS, _REPLACE_ALLOWED_IPS),
        attribute(_PEER_KEEPALIVE, _U16.pack(peer.keepalive)),
    ]
    if peer.endpoint is not None:
        parts.append(attribute(_PEER_ENDPOINT, _sockaddr(peer.endpoint)))
    if peer.allowed_ips:
        parts.append(nested(_PEER_ALLOWED_IPS, *map(_allowed_ip, peer.allowed_ips)))
    return nested(0, *parts)


def _allowed_ip(cidr: str) -> bytes:
    family, packed, length = split_checked(cidr)
    return nested(
        0,
        attribute(_ALLOWED_FAMILY, _U16.pack(family)),
        attribute(_ALLOWED_ADDRESS, packed),
        attribute(_ALLOWED_LENGTH, bytes((length,))),
    )


def _sockaddr(endpoint: Endpoint) -> bytes:
    family, packed, _length = split_checked(endpoint[0])
    if family == socket.AF_INET:
        rest = _SOCKADDR_IN.pack(endpoint[1], packed)
    else:
        rest = _SOCKADDR_IN6.pack(endpoint[1], 0, packed)
    return _FAMILY.pack(family) + rest[_FAMILY.size :]


def parse(messages: Sequence[Message]) -> WireGuardDevice:
    """All messages of a dump: a peer that does not fit into one goes on in the next, with further addresses."""
    name, private_key, port = "", "", 0
    peers: dict[str, PeerStatus] = {}
    for message in messages:
        found = attributes(message.payload, generic_netlink.HEADER.size)
        if _PRIVATE_KEY in found:
            private_key = _key_text(found[_PRIVATE_KEY])
        if _LISTEN_PORT in found:
            port = _U16.unpack(found[_LISTEN_PORT])[0]
        name = found[_IFNAME].rstrip(b"\0").decode() if _IFNAME in found else name
        for status in map(_parse_peer, elements(found.get(_PEERS, b""))):
            before = peers.get(status.peer.public_key)
            peers[status.peer.public_key] = _continued(before, status) if before else status
    return WireGuardDevice(name, private_key, port, peers)


def _continued(before: PeerStatus, rest: PeerStatus) -> PeerStatus:
    peer = before.peer
    whole = WireGuardPeer(
        peer.public_key,
        peer.endpoint,
        peer.allowed_ips + rest.peer.allowed_ips,
        peer.keepalive,
        peer.preshared_key,
    )
    return PeerStatus(whole, before.last_handshake, before.received, before.sent)


def _parse_peer(data: bytes) -> PeerStatus:
    found = attributes(data)
    peer = WireGuardPeer(
        public_key=_key_text(found[_PEER_PUBLIC_KEY]),
        endpoint=_endpoint(found[_PEER_ENDPOINT]) if _PEER_ENDPOINT in found else None,
        allowed_ips=tuple(map(_parse_allowed_ip, elements(found.get(_PEER_ALLOWED_IPS, b"")))),
        keepalive=_U16.unpack(found[_PEER_KEEPALIVE])[0] if _PEER_KEEPALIVE in found else 0,
        preshared_key=_key_text(found.get(_PEER_PRESHARED_KEY, _NO_KEY)),
    )
    seconds, nanoseconds = _TIMESPEC.unpack(found.get(_PEER_LAST_HANDSHAKE, bytes(_TIMESPEC.size)))
    return PeerStatus(
        peer,
        seconds + nanoseconds / 1e9,
        _U64.unpack(found.get(_PEER_RECEIVED, bytes(8)))[0],
        _U64.unpack(found.get(_PEER_SENT, bytes(8)))[0],
    )


def _endpoint(data: bytes) -> Endpoint:
    (family,) = _FAMILY.unpack_from(data)
    if family == socket.AF_INET:
        port, packed = _SOCKADDR_IN.unpack(data[: _SOCKADDR_IN.size])
    else:
        port, _flow, packed = _SOCKADDR_IN6.unpack(data[: _SOCKADDR_IN6.size])
    return socket.inet_ntop(family, packed), port


def _parse_allowed_ip(data: bytes) -> str:
    found = attributes(data)
    (family,) = _U16.unpack(found[_ALLOWED_FAMILY])
    return f"{socket.inet_ntop(family, found[_ALLOWED_ADDRESS])}/{found[_ALLOWED_LENGTH][0]}"


def _key_text(raw: bytes) -> str:
    """32 zero bytes stand for no key."""
    return "" if raw == _NO_KEY else base64.b64encode(raw).decode()
