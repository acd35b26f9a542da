"""The floor: the fewest messages that do in the kernel what a verb does, each packed once, by hand, beforehand.

Nothing is checked, recorded, guarded or given back on failure. What a verb costs above this is what cnmd adds. All of
it happens in a namespace of its own, so that nothing here meets the links and tables of the daemon beside it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import NamedTuple

import nftables

_CLONE_NEWNET = 0x40000000
THREAD_NAMESPACE = "/proc/thread-self/ns/net"
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_NEWLINK, _DELLINK, _SETLINK, _NEWADDR, _NEWROUTE = 16, 17, 19, 20, 24
_UP = 1
_GROUP_REAP = 7
_NFT = 10 << 8
_NEW_ELEMENT, _DELETE_ELEMENT = _NFT | 12, _NFT | 14
_INET = 1
_NETLINK_NETFILTER = 12
_RECEIVE_BYTES = 1 << 16
_SO_SNDBUFFORCE = 32
_SEND_BYTES = 1 << 24
_FIRST_INDEX = 10_000
_INNER = 1_000_000
_ELEMENTS_A_MESSAGE = 500

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_libc = ctypes.CDLL(None, use_errno=True)

_TABLE = """
table inet floor {
    map publish4 { typeof meta l4proto . th dport : ip daddr . th dport; }
    map publish6 { typeof meta l4proto . th dport : ip6 daddr . th dport; }
    set open4 { typeof ip daddr . meta l4proto . th dport; }
    set open6 { typeof ip6 daddr . meta l4proto . th dport; }
}
"""


class Attachment(NamedTuple):
    """The messages of one endpoint."""

    namespace: int
    pair: bytes
    inside: tuple[bytes, ...]
    publish: bytes
    unpublish: bytes
    retire: bytes


class Bridge(NamedTuple):
    """The messages of one network."""

    create: tuple[bytes, ...]
    retire: bytes


class Floor:
    """A bridge of its own and what hangs on it. Made and used by one thread."""

    def __init__(self) -> None:
        self._home = os.open(THREAD_NAMESPACE, os.O_RDONLY)
        self._namespace = new_namespace()
        with inside(self._namespace, self._home):
            self._links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._nft = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            self._nft.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BYTES)
            self._nftables = nftables.Nftables()
            code, _, complaint = self._nftables.cmd(_TABLE)
            if code != 0:
                raise RuntimeError(complaint)
        self._held: list[socket.socket] = []
        self._numbers = count(_FIRST_INDEX)
        self._bridge = next(self._numbers)
        self.create_network(_bridge(self._bridge))

    def close(self) -> None:
        self.let_go()
        self.reap()
        self._links.close()
        self._nft.close()
        os.close(self._namespace)
        os.close(self._home)

    # Beforehand

    def network(self) -> Bridge:
        """The messages of another bridge."""
        return _bridge(next(self._numbers))

    def endpoint(self, namespace: int, ports: int = 1, families: Sequence[int] = (4,)) -> Attachment:
        """The messages of another endpoint, for the namespace behind a descriptor."""
        index = next(self._numbers)
        inner = index + _INNER  # of two alike the kernel takes the pair for a link to itself
        peer = _link(inner) + _text(3, f"e{index}") + _u32(28, namespace)
        pair = _nested(18, _text(1, "veth"), _nested(2, _nested(1, peer)))
        new = _link(index, _UP, _UP) + _text(3, f"fv{index}") + _u32(10, self._bridge) + pair
        address = f"10.77.{index >> 8 & 255}.{index & 255}"
        gone = _link(index, 0, _UP) + _u32(10, 0) + _u32(27, _GROUP_REAP)
        return Attachment(
            namespace,
            _message(_NEWLINK, _CREATE | _EXCL | _ACK, new),
            (
                _message(_SETLINK, _ACK, _link(inner, _UP, _UP)),
                _message(_NEWADDR, _CREATE | _EXCL | _ACK, _address(inner, address, 8)),
                _message(_NEWROUTE, _CREATE | _EXCL | _ACK, _default_route(inner, "10.0.0.1")),
            ),
            _port_batch(_NEW_ELEMENT, _CREATE, index, ports, families),
            _port_batch(_DELETE_ELEMENT, 0, index, ports, families),
            _message(_SETLINK, _ACK, gone),
        )

    # The verbs

    def create_network(self, bridge: Bridge) -> None:
        """Bridge, address, up: one send."""
        send(self._links, *bridge.create)

    def delete_network(self, bridge: Bridge) -> None:
        """Down, and in the group that `reap` deletes."""
        send(self._links, bridge.retire)

    def attach(self, endpoint: Attachment) -> None:
        """Pair, address, default route, ports: two sends and one transaction."""
        send(self._links, endpoint.pair)
        with inside(endpoint.namespace, self._home):
            box = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        with box:
            send(box, *endpoint.inside)
        self.publish(endpoint)

    def detach(self, endpoint: Attachment) -> None:
        """Ports gone, pair down, off the bridge, and in the group that `reap` deletes."""
        self.unpublish(endpoint)
        send(self._links, endpoint.retire)

    def publish(self, endpoint: Attachment) -> None:
        _commit(self._nft, endpoint.publish)

    def unpublish(self, endpoint: Attachment) -> None:
        _commit(self._nft, endpoint.unpublish)

    def hold(self, first: int, ports: int) -> None:
        """TCP ports of the host, each by a socket of both families."""
        with inside(self._namespace, self._home):
            for port in range(first, first + ports):
                holder = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                holder.bind(("::", port))
                self._held.append(holder)

    def let_go(self) -> None:
        while self._held:
            self._held.pop().close()

    def reap(self) -> None:
        """Delete what was detached, all in one."""
        with suppress(OSError):  # ENODEV: there is nothing
            send(self._links, _message(_DELLINK, _ACK, _link() + _u32(27, _GROUP_REAP)))


def _bridge(index: int) -> Bridge:
    new = _link(index) + _text(3, f"fb{index}") + _nested(18, _text(1, "bridge"))
    gone = _link(index, 0, _UP) + _u32(27, _GROUP_REAP)
    return Bridge(
        (
            _message(_NEWLINK, _CREATE | _EXCL | _ACK, new),
            _message(_NEWADDR, _CREATE | _EXCL | _ACK, _address(index, f"10.{index & 63}.0.1", 16)),
            _message(_SETLINK, _ACK, _link(index, _UP, _UP)),
        ),
        _message(_SETLINK, _ACK, gone),
    )


def named_pair(name: str, peer: str) -> bytes:
    """The message that makes a veth pair, its first end up."""
    other = _nested(1, _link() + _text(3, peer))
    new = _link(0, _UP, _UP) + _text(3, name) + _nested(18, _text(1, "veth"), _nested(2, other))
    return _message(_NEWLINK, _CREATE | _EXCL | _ACK, new)


def named_deletion(name: str) -> bytes:
    return _message(_DELLINK, _ACK, _link() + _text(3, name))


def new_namespace() -> int:
    """A descriptor of a network namespace that lives as long as it is open, its loopback up, IPv6 off as in cnmd's."""
    home = os.open(THREAD_NAMESPACE, os.O_RDONLY)
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        namespace = os.open(THREAD_NAMESPACE, os.O_RDONLY)
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w") as switch:
            switch.write("1")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as links:
            send(links, _message(_SETLINK, _ACK, _link(1, _UP, _UP)))
        _check(_libc.setns(home, _CLONE_NEWNET))
    finally:
        os.close(home)
    return namespace


@contextmanager
def inside(namespace: int, home: int) -> Iterator[None]:
    """The block runs with the calling thread in a namespace."""
    _check(_libc.setns(namespace, _CLONE_NEWNET))
    try:
        yield
    finally:
        _check(_libc.setns(home, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# rtnetlink


def _message(kind: int, flags: int, payload: bytes) -> bytes:
    return _HEADER.pack(16 + len(payload), kind, _REQUEST | flags, 0, 0) + payload


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) & 3)


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | 0x8000, b"".join(attributes))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _LINK.pack(0, 0, index, flags, change)


def _address(index: int, address: str, length: int) -> bytes:
    packed = socket.inet_aton(address)
    return (
        struct.pack("=BBBBi", socket.AF_INET, length, 0, 0, index)
        + _attribute(2, packed)
        + _attribute(1, packed)
    )


def _default_route(index: int, gateway: str) -> bytes:
    header = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
    return header + _u32(4, index) + _attribute(5, socket.inet_aton(gateway))


def send(links: socket.socket, *messages: bytes) -> None:
    """One send; each message asks for its acknowledgement."""
    links.send(b"".join(messages))
    for _ in messages:
        _raise_error(links.recv(_RECEIVE_BYTES))


def _raise_error(answer: bytes) -> None:
    (number,) = struct.unpack_from("=i", answer, 16)
    if number:
        raise OSError(-number, os.strerror(-number))


# nftables


def _elements(kind: int, flags: int, name: str, elements: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    head = struct.pack("=BBH", _INET, 0, 0) + _text(1, "floor") + _text(2, name)
    for first in range(0, len(elements), _ELEMENTS_A_MESSAGE):
        packed = []
        for key, value in elements[first : first + _ELEMENTS_A_MESSAGE]:
            data = _nested(2, _attribute(1, value)) if value and kind == _NEW_ELEMENT else b""
            packed.append(_nested(1, _nested(1, _attribute(1, key)) + data))
        yield _message(kind, flags, head + _nested(3, *packed))


def _port_batch(kind: int, flags: int, index: int, ports: int, families: Sequence[int]) -> bytes:
    """One transaction: for each family and port where it leads, and that it is open."""
    tcp = b"\x06\0\0\0"
    numbers = [struct.pack(">Hxx", 20_000 + (index * ports + n) % 40_000) for n in range(ports)]
    messages: list[bytes] = []
    for family in families:
        host = struct.pack(">I", 10 << 24 | index) if family == 4 else struct.pack(">QQ", 0xFD << 56, index)
        messages += _elements(
            kind, flags, f"publish{family}", [(tcp + port, host + port) for port in numbers]
        )
        messages += _elements(kind, flags, f"open{family}", [(host + tcp + port, b"") for port in numbers])
    bounds = struct.pack("=BBH", 0, 0, socket.htons(10))
    last = bytearray(messages[-1])
    struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | _ACK)  # for all of them
    return b"".join([_message(0x10, 0, bounds), *messages[:-1], last, _message(0x11, 0, bounds)])


def _commit(nft: socket.socket, batch: bytes) -> None:
    nft.send(batch)
    _raise_error(nft.recv(_RECEIVE_BYTES))
