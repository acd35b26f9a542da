"""Connection tracking: forget flows that would go on without the element that let them begin, or never see a new one.

Layouts are those of linux/netfilter/nfnetlink_conntrack.h. A listing walks the kernel's whole hash table, 262,144
buckets or some 4 ms on many machines whatever is in them: so there is one for all addresses while few flows exist,
and the kernel's own filter (Linux 5.8) only where parsing every flow would cost more. A filtered deletion (Linux 6.11)
passes over empty buckets and costs 0.2 ms; older kernels refuse it, since its tuple is not whole.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from cnm.kernel.contract import PublishedPort
from cnm.kernel.netlink import NetlinkSocket, Request, attribute, attributes, nested, u32
from cnm.kernel.nft_transaction import NETLINK_NETFILTER

_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET = _SUBSYSTEM | 1
_DELETE = _SUBSYSTEM | 2

_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_ID, _ZONE, _FILTER = 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IPV4_SOURCE, _IPV4_TARGET, _IPV6_SOURCE, _IPV6_TARGET = 1, 2, 3, 4
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3
_FILTER_ORIG, _FILTER_REPLY = 1, 2
_BY_SOURCE = 1 << 0
_BY_PROTOCOL = 1 << 3
_BY_SOURCE_PORT = 1 << 4
_BY_TARGET_PORT = 1 << 5

_HEADER = struct.Struct("=BBH")  # struct nfgenmsg
_HEEDS_FAMILY = 1
"""nfgen_version of a deletion: with 0 the kernel ignores the family."""
_PORT = struct.Struct(">H")
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}

_FEW_FLOWS = 1000
_DELETIONS_AT_ONCE = 100
"""Each is answered, and the answers have to fit into the socket's buffer."""
_FEW_FILTERS = 20
"""So many filtered deletions cost less than one listing."""
_FEW_PORTS = 2
"""So many are cheaper to look for one by one than to pick from all flows of the protocol."""


class Side(NamedTuple):
    """One direction of a flow; packed addresses, ports 0 where the protocol has none."""

    source: bytes
    target: bytes
    protocol: int
    source_port: int
    target_port: int


class Flow(NamedTuple):
    """A tracked flow: as its first packet was sent, and as answers to it are."""

    family: int
    original: Side
    reply: Side
    identity: bytes
    """The attributes by which exactly this flow is deleted."""


class Conntrack:
    """The flows of the namespace of the thread that makes it. Thread-safe."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        self._lock = threading.Lock()
        self._count = os.open("/proc/sys/net/netfilter/nf_conntrack_count", os.O_RDONLY | os.O_CLOEXEC)
        self._filters_deletions = True

    def close(self) -> None:
        self._socket.close()
        os.close(self._count)

    def flush_addresses(self, addresses: Sequence[str]) -> None:
        """Forget every flow that these containers (bare address text) began or answered."""
        packed = {_packed(address) for address in addresses}
        ipv4 = {address for address in packed if len(address) == 4}
        if self._forget_filtered([_by_source(a, side) for a in ipv4 for side in (_TUPLE_ORIG, _TUPLE_REPLY)]):
            packed -= ipv4
        if packed:
            listings = {_by_source(a, side) for a in packed for side in (_TUPLE_ORIG, _TUPLE_REPLY)}
            self._forget(listings, lambda flow: flow.original.source in packed or flow.reply.source in packed)

    def flush_ports(self, address: str, ports: Sequence[PublishedPort]) -> None:
        """Forget the flows that came to a container by these published ports, and no others to the same server."""
        source = _packed(address)
        wanted = {(_NUMBERS[p.protocol], p.host_port or p.container_port, p.container_port) for p in ports}
        few_ipv4 = len(source) == 4 and len(wanted) <= _FEW_FILTERS
        if few_ipv4 and self._forget_filtered([_answered_by(source, *port) for port in wanted]):
            return
        self._forget(
            [_by_source(source, _TUPLE_REPLY)],
            lambda flow: (
                flow.reply.source == source
                and (flow.reply.protocol, flow.original.target_port, flow.reply.source_port) in wanted
            ),
        )

    def flush_udp(self, host_ports: Collection[int]) -> None:
        """Forget UDP flows to these ports of the host that are not translated: they began before a port was
        published, and would never find it."""
        wanted = frozenset(host_ports)
        local = _LocalAddresses()
        self._forget(
            _udp_to(wanted),
            lambda flow: (
                flow.original.protocol == socket.IPPROTO_UDP
                and flow.original.target_port in wanted
                and flow.original.target == flow.reply.source
                and flow.original.target in local
            ),
        )

    def _forget_filtered(self, filters: Sequence[bytes]) -> bool:
        """False on a kernel that cannot."""
        if not self._filters_deletions:
            return False
        with self._lock:
            for payload in filters:
                (error,) = self._socket.send([Request(_DELETE, 0, payload, "forget tracked flows")])
                if error is not None and error.errno == errno.EINVAL:
                    self._filters_deletions = False
                    return False
                if error is not None:
                    raise error
        return True

    def _forget(self, listings: Iterable[bytes], chosen: Callable[[Flow], bool]) -> None:
        with self._lock:
            count = int(os.pread(self._count, 32, 0))
            if count == 0:
                return
            if count <= _FEW_FLOWS:
                listings = (_HEADER.pack(socket.AF_UNSPEC, 0, 0),)
            going = {
                flow.identity: flow
                for listing in listings
                for flow in self._list_locked(listing)
                if chosen(flow)
            }
            self._delete_locked(list(going.values()))

    def _list_locked(self, listing: bytes) -> Iterator[Flow]:
        for message in self._socket.dump(Request(_GET, 0, listing, "list tracked flows")):
            yield _parse(message.payload)

    def _delete_locked(self, flows: Sequence[Flow]) -> None:
        """One that has ended meanwhile is gone as well."""
        requests = [
            Request(_DELETE, 0, _HEADER.pack(flow.family, 0, 0) + flow.identity, "forget a tracked flow")
            for flow in flows
        ]
        for first in range(0, len(requests), _DELETIONS_AT_ONCE):
            for error in self._socket.send(requests[first : first + _DELETIONS_AT_ONCE]):
                if error is not None and error.errno != errno.ENOENT:
                    raise error


class _LocalAddresses:
    """Which packed addresses are the host's own: those that a socket can be bound to."""

    def __init__(self) -> None:
        self._known: dict[bytes, bool] = {}

    def __contains__(self, address: bytes) -> bool:
        if address not in self._known:
            self._known[address] = _can_bind(address)
        return self._known[address]


def _can_bind(address: bytes) -> bool:
    family = _family(address)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((socket.inet_ntop(family, address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _by_source(address: bytes, side: int) -> bytes:
    """Payload that selects the flows whose `side` comes from `address`; for IPv6 all: its filter selects the others
    (nf_conntrack_netlink.c up to Linux 6.18 at least takes ipv6_addr_cmp the wrong way round)."""
    if len(address) != 4:
        return _HEADER.pack(socket.AF_INET6, 0, 0)
    return _filtered(socket.AF_INET, side, nested(_TUPLE_IP, attribute(_IPV4_SOURCE, address)), _BY_SOURCE)


def _answered_by(source: bytes, protocol: int, target_port: int, port: int) -> bytes:
    """Payload that selects the flows to a port of the host that this port of an IPv4 container answers."""
    number = attribute(_NUMBER, bytes((protocol,)))
    target = nested(_TUPLE_PROTO, number, attribute(_TARGET_PORT, _PORT.pack(target_port)))
    answering = nested(_TUPLE_PROTO, number, attribute(_SOURCE_PORT, _PORT.pack(port)))
    by = nested(
        _FILTER,
        u32(_FILTER_ORIG, _BY_PROTOCOL | _BY_TARGET_PORT),
        u32(_FILTER_REPLY, _BY_SOURCE | _BY_PROTOCOL | _BY_SOURCE_PORT),
    )
    reply = nested(_TUPLE_REPLY, nested(_TUPLE_IP, attribute(_IPV4_SOURCE, source)), answering)
    return _HEADER.pack(socket.AF_INET, _HEEDS_FAMILY, 0) + nested(_TUPLE_ORIG, target) + reply + by


def _udp_to(ports: frozenset[int]) -> list[bytes]:
    """Payloads that together list at least the UDP flows to these ports."""
    protocol = attribute(_NUMBER, bytes((socket.IPPROTO_UDP,)))
    families = (socket.AF_INET, socket.AF_INET6)
    if len(ports) > _FEW_PORTS:
        return [
            _filtered(family, _TUPLE_ORIG, nested(_TUPLE_PROTO, protocol), _BY_PROTOCOL)
            for family in families
        ]
    return [
        _filtered(family, _TUPLE_ORIG, nested(_TUPLE_PROTO, protocol, target), _BY_PROTOCOL | _BY_TARGET_PORT)
        for target in (attribute(_TARGET_PORT, _PORT.pack(port)) for port in ports)
        for family in families
    ]


def _filtered(family: int, side: int, fields: bytes, flags: int) -> bytes:
    original, reply = (flags, 0) if side == _TUPLE_ORIG else (0, flags)
    by = nested(_FILTER, u32(_FILTER_ORIG, original), u32(_FILTER_REPLY, reply))
    return _HEADER.pack(family, _HEEDS_FAMILY, 0) + nested(side, fields) + by


def _parse(payload: bytes) -> Flow:
    found = attributes(payload, _HEADER.size)
    identity = nested(_TUPLE_ORIG, found[_TUPLE_ORIG]) + attribute(_ID, found[_ID])
    if _ZONE in found:
        identity += attribute(_ZONE, found[_ZONE])
    return Flow(payload[0], _side(found[_TUPLE_ORIG]), _side(found[_TUPLE_REPLY]), identity)


def _side(data: bytes) -> Side:
    parts = attributes(data)
    addresses, transport = attributes(parts[_TUPLE_IP]), attributes(parts[_TUPLE_PROTO])
    version6 = _IPV6_SOURCE in addresses
    return Side(
        source=addresses[_IPV6_SOURCE if version6 else _IPV4_SOURCE],
        target=addresses[_IPV6_TARGET if version6 else _IPV4_TARGET],
        protocol=transport[_NUMBER][0],
        source_port=_port(transport.get(_SOURCE_PORT)),
        target_port=_port(transport.get(_TARGET_PORT)),
    )


def _port(data: bytes | None) -> int:
    return int(_PORT.unpack(data)[0]) if data else 0
