"""Netlink sockets and attributes: pack messages, send many at once, read the answers and dumps.

Layouts are those of linux/netlink.h and linux/rtnetlink.h. All integers are in host byte order unless a
message's own header says otherwise.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from cnm.errors import KernelError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_ROOT_AND_MATCH = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_NLMSGERR_ATTR_MSG = 1

_HEADER = struct.Struct("=IHHII")
_HEADER_BYTES = _HEADER.size
_unpack_header = _HEADER.unpack_from
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_FLAGS = struct.Struct("=H")
_ERROR = struct.Struct("=i")
_RECEIVE_BYTES = 1 << 17
_SO_RCVBUFFORCE = 33
_BULK_ANSWER_BYTES = 1 << 21
"""Room for a refusal of every message of a bulk: the kernel counts some 800 bytes each."""
_NUMBER = struct.Struct("=II")
BULK_LONGEST = 600
_BULK_NUMBERS = tuple(_NUMBER.pack(number, 0) for number in range(1, BULK_LONGEST + 1))
"""Sequence and port numbers, at this place in a header."""
_NONE_THERE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENETUNREACH, errno.EHOSTUNREACH)
_DUMP_RETRIES = 10


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute (struct nlattr), padded to four bytes."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def attributes(data: memoryview | bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes of `data` from `offset` on, by type without flags; of repeated ones the last."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & NLA_TYPE_MASK] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


def elements(data: bytes) -> Iterator[bytes]:
    """The contents of a list: attributes that are all of one kind, or numbered."""
    offset = 0
    while offset + 4 <= len(data):
        (length, _kind) = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class Request(NamedTuple):
    """One message to send: its type, extra flags and payload; REQUEST and ACK are added when it is sent.

    `doing` says what it is for, in an error's words: "create interface cnm-0123".
    """

    kind: int
    flags: int
    payload: bytes
    doing: str


class Message(NamedTuple):
    """One message received, without its header."""

    kind: int
    payload: bytes


class NetlinkError(KernelError):
    """The kernel's answer to one request; `errno` is positive, `detail` the kernel's own words if it gave any."""

    def __init__(self, doing: str, number: int, detail: str = "") -> None:
        why = os.strerror(number).lower()
        super().__init__(f"cannot {doing}: {detail or why}", number)
        self.detail = detail


class NetlinkSocket:
    """A netlink socket in the namespace of the thread that makes it, usable from any thread under a lock.

    Not thread-safe: the owner serialises. `family` is a NETLINK_* protocol number.
    """

    def __init__(self, family: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, requests: Sequence[Request]) -> list[NetlinkError | None]:
        """Send all requests in one system call; the answer has one entry a request, None where it went well.

        The kernel works through all of them in order, whatever becomes of the earlier ones.
        """
        first = self._sequence + 1
        packed = [self._pack(r, NLM_F_ACK) for r in requests]
        self._socket.send(b"".join(packed))
        outcome: list[NetlinkError | None] = [None] * len(requests)
        pending = len(requests)
        while pending:
            for kind, _flags, sequence, payload in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence < first + len(requests):
                    continue
                pending -= 1
                number, detail = _parse_error(payload, _flags)
                if number:
                    outcome[sequence - first] = NetlinkError(requests[sequence - first].doing, number, detail)
        return outcome

    def send_bulk(self, messages: Sequence[tuple[bytes, bytes]]) -> list[tuple[int, int, str]]:
        """Send at most BULK_LONGEST messages in one system call, of which only the last is acknowledged.

        Each is what comes before and after its sequence and port numbers. The answer has (position, errno, the kernel's
        words) for each that was refused, in order.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BULK_ANSWER_BYTES)
        heads, tails = zip(*messages, strict=True)
        packed = bytearray().join(chain.from_iterable(zip(heads, _BULK_NUMBERS, tails, strict=False)))
        last = len(packed) - sum(map(len, messages[-1])) - _NUMBER.size
        _FLAGS.pack_into(packed, last + 6, _FLAGS.unpack_from(packed, last + 6)[0] | NLM_F_ACK)
        self._socket.send(packed)
        refused = []
        sequence = 0
        while sequence != len(messages):
            for kind, flags, sequence, payload in self._receive():
                if kind == NLMSG_ERROR:
                    number, detail = _parse_error(payload, flags)
                    if number:
                        refused.append((sequence - 1, number, detail))
        return refused

    def execute(self, requests: Sequence[Request]) -> None:
        """Send all requests and raise the first error."""
        if not requests:
            return
        for error in self.send(requests):
            if error is not None:
                raise error

    def get(self, request: Request) -> Message | None:
        """The one object that `request` asks for, None where there is none."""
        self._sequence_send(request, 0)
        for kind, _flags, sequence, payload in self._receive():
            if sequence != self._sequence:
                continue
            if kind == NLMSG_ERROR:
                number, detail = _parse_error(payload, _flags)
                if number in _NONE_THERE:
                    return None
                raise NetlinkError(request.doing, number, detail)
            return Message(kind, payload)
        raise KernelError(f"cannot {request.doing}: no answer from the kernel")

    def dump(self, request: Request) -> list[Message]:
        """All objects that `request` lists; asks again when the list changed while it was read."""
        for _ in range(_DUMP_RETRIES):
            messages, interrupted = self._dump_once(request)
            if not interrupted:
                return messages
        raise KernelError(f"cannot {request.doing}: the list changed {_DUMP_RETRIES} times while it was read")

    def _dump_once(self, request: Request) -> tuple[list[Message], bool]:
        self._sequence_send(request, NLM_F_ROOT_AND_MATCH)
        messages: list[Message] = []
        interrupted = 0
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted |= flags & NLM_F_DUMP_INTR
                if kind == NLMSG_DONE:
                    return messages, bool(interrupted)
                if kind == NLMSG_ERROR:
                    number, detail = _parse_error(payload, flags)
                    raise NetlinkError(request.doing, number, detail)
                messages.append(Message(kind, payload))

    def _sequence_send(self, request: Request, flags: int) -> None:
        self._socket.send(self._pack(request, flags))

    def _pack(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        length = _HEADER.size + len(request.payload)
        header = _HEADER.pack(length, request.kind, NLM_F_REQUEST | request.flags | flags, self._sequence, 0)
        return header + request.payload + b"\0" * (-length & 3)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages of one datagram: (type, flags, sequence, payload)."""
        return messages_of(self._socket.recv(_RECEIVE_BYTES))


def messages_of(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split one datagram into (type, flags, sequence, payload)."""
    offset, last = 0, len(data) - _HEADER_BYTES
    while offset <= last:
        length, kind, flags, sequence, _pid = _unpack_header(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER_BYTES : offset + length]
        offset += (length + 3) & ~3


def _parse_error(payload: bytes, flags: int) -> tuple[int, str]:
    """(positive errno, the kernel's words) of a struct nlmsgerr and its extended acknowledgement."""
    (number,) = _ERROR.unpack_from(payload)
    if not flags & NLM_F_ACK_TLVS:
        return -number, ""
    offset = 4 + _HEADER.size
    if not flags & NLM_F_CAPPED:
        (length,) = _U32.unpack_from(payload, 4)
        offset = 4 + length
    words = attributes(payload, offset).get(_NLMSGERR_ATTR_MSG, b"")
    return -number, words.rstrip(b"\0").decode(errors="replace")
