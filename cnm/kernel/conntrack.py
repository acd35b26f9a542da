"""Connection tracking: forget flows that an element's removal would leave running. Source: nfnetlink_conntrack.h."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cnm.kernel.contract import PublishedPort
from cnm.kernel.netlink import NetlinkError, NetlinkSocket, Request, attribute, attributes, nested, u32

_NETLINK_NETFILTER = 12
_GET = 0x0101
_DELETE = 0x0102
_TUPLE_ORIG = 1
_TUPLE_REPLY = 2
_ZONE = 18
_FILTER = 25
_FILTER_ORIG_FLAGS = 1
_FILTER_REPLY_FLAGS = 2
_FILTER_SOURCE = 1 << 0
_TUPLE_IP = 1
_TUPLE_PROTO = 2
_IP_V4_SOURCE = 1
_IP_V6_SOURCE = 3
_PROTO_NUMBER = 1
_PROTO_SOURCE = 2
_PROTO_TARGET = 3
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}

_GENERIC = struct.Struct(">BBH")
_PORT = struct.Struct(">H")


class Flow(NamedTuple):
    """The ports of one tracked flow, and the tuple by which it is deleted."""

    protocol: int
    target_port: int
    """That the first packet was sent to: the host's, for a published port."""
    reply_source_port: int
    """That answers come from: the container's."""
    original: bytes


class Conntrack:
    """The flows of the namespace of the thread that makes it. Thread-safe."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(_NETLINK_NETFILTER)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._socket.close()

    def flush_address(self, address: str) -> None:
        """Forget every flow that a container began or answered (bare address text)."""
        for tuple_kind, flags_kind in ((_TUPLE_ORIG, _FILTER_ORIG_FLAGS), (_TUPLE_REPLY, _FILTER_REPLY_FLAGS)):
            payload = _filtered(address, tuple_kind, flags_kind)
            with self._lock:
                self._socket.execute([Request(_DELETE, 0, payload, f"forget the flows of {address}")])

    def flush_ports(self, address: str, ports: Sequence[PublishedPort]) -> None:
        """Forget the flows to published ports of a container."""
        wanted = {(_NUMBERS[port.protocol], port.container_port) for port in ports}
        payload = _filtered(address, _TUPLE_REPLY, _FILTER_REPLY_FLAGS)
        self._delete(payload, address, lambda flow: (flow.protocol, flow.reply_source_port) in wanted)

    def flush_udp(self, host_ports: Sequence[int]) -> None:
        """Forget UDP flows to these ports of the host: one from before a port was published keeps missing it."""
        wanted = frozenset(host_ports)
        for family in (socket.AF_INET, socket.AF_INET6):
            self._delete(
                _GENERIC.pack(family, 0, 0),
                "::" if family == socket.AF_INET6 else "0.0.0.0",
                lambda flow: flow.protocol == _NUMBERS["udp"] and flow.target_port in wanted,
            )

    def _delete(self, listing: bytes, address: str, chosen: Callable[[Flow], bool]) -> None:
        doing = f"forget flows of {address}"
        with self._lock:
            flows = [_parse(message.payload) for message in self._socket.dump(Request(_GET, 0, listing, doing))]
            head = _GENERIC.pack(socket.AF_INET6 if ":" in address else socket.AF_INET, 0, 0)
            deletions = [Request(_DELETE, 0, head + flow.original, doing) for flow in flows if flow and chosen(flow)]
            for error in self._socket.send(deletions) if deletions else ():
                _raise_unless_gone(error)


def _raise_unless_gone(error: NetlinkError | None) -> None:
    if error is not None and error.errno != 2:
        raise error


def _filtered(address: str, tuple_kind: int, flags_kind: int) -> bytes:
    """Payload that selects the flows whose tuple of this kind has `address` as its source (Linux 5.8 or newer)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    source = attribute(_IP_V6_SOURCE if ":" in address else _IP_V4_SOURCE, socket.inet_pton(family, address))
    other_flags = _FILTER_REPLY_FLAGS if flags_kind == _FILTER_ORIG_FLAGS else _FILTER_ORIG_FLAGS
    return (
        _GENERIC.pack(family, 0, 0)
        + nested(tuple_kind, nested(_TUPLE_IP, source))
        + nested(_FILTER, u32(flags_kind, _FILTER_SOURCE), u32(other_flags, 0))
    )


def _parse(payload: bytes) -> Flow | None:
    """None for a protocol without ports."""
    found = attributes(payload, _GENERIC.size)
    original, reply = attributes(found[_TUPLE_ORIG]), attributes(found[_TUPLE_REPLY])
    sent, answered = attributes(original[_TUPLE_PROTO]), attributes(reply[_TUPLE_PROTO])
    if _PROTO_TARGET not in sent or _PROTO_SOURCE not in answered:
        return None
    zone = attribute(_ZONE, found[_ZONE]) if _ZONE in found else b""
    return Flow(
        protocol=sent[_PROTO_NUMBER][0],
        target_port=_PORT.unpack(sent[_PROTO_TARGET])[0],
        reply_source_port=_PORT.unpack(answered[_PROTO_SOURCE])[0],
        original=nested(_TUPLE_ORIG, found[_TUPLE_ORIG]) + zone,
    )
