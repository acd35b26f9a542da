"""Asks many hosts at once whether they answer: echo requests (RFC 792, RFC 4443), and connections to TCP ports.

All requests of a call leave through one raw socket of a family, and are told apart by their sequence numbers.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from cnm.kernel.contract import Echo, Port
from cnm.kernel.namespaces import Namespaces

_BURST = 64
"""Requests that are sent before answers are taken: a socket holds some hundred big ones."""
_ENOUGH = 128
"""Bytes of an answer that are looked at."""
_RECEIVE_BYTES = 1 << 20
_SEND_SECONDS = 0.1
_MARK = struct.Struct("!Q")
_ICMP = struct.Struct("!BBHHH")
_IPV6_HEADER_BYTES, _IPV4_HEADER_BYTES = 40, 20
_MTU_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_PROBE = 3
"""IP_PMTUDISC_PROBE, of both families: packets are never fragmented here, whatever is known of their path."""
_IPV6_DONTFRAG = 62
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1


class _Family:
    """What differs between ICMP and ICMPv6."""

    def __init__(self, version: int) -> None:
        six = version == 6
        self.family = socket.AF_INET6 if six else socket.AF_INET
        self.protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        self.request, self.reply = (128, 129) if six else (8, 0)
        self.header = _IPV6_HEADER_BYTES if six else _IPV4_HEADER_BYTES

    def open(self) -> socket.socket:
        """In the namespace of the calling thread."""
        opened = socket.socket(self.family, socket.SOCK_RAW, self.protocol)
        opened.settimeout(_SEND_SECONDS)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        opened.setsockopt(*_MTU_DISCOVER[self.family], _PROBE)
        if self.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            blocked = bytearray(b"\xff" * 32)
            blocked[self.reply // 8] &= ~(1 << self.reply % 8)
            opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        else:
            opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << self.reply) & 0xFFFFFFFF))
        return opened

    def packet(self, ident: int, number: int, mark: bytes, size: int) -> bytes:
        """`size` bytes with the IP header, which the kernel adds; of ICMPv6 it makes the checksum, too."""
        data = mark.ljust(max(len(mark), size - self.header - _ICMP.size), b"\0")
        bare = _ICMP.pack(self.request, 0, 0, ident, number) + data
        if self.family == socket.AF_INET6:
            return bare
        return _ICMP.pack(self.request, 0, _checksum(bare), ident, number) + data

    def number(self, answer: bytes, ident: int, mark: bytes) -> int | None:
        """Of the request that is answered, None where it is none of ours."""
        start = 0 if self.family == socket.AF_INET6 else (answer[0] & 15) * 4
        body = answer[start : start + _ICMP.size + len(mark)]
        if len(body) < _ICMP.size + len(mark) or body[_ICMP.size :] != mark:
            return None
        kind, _, _, found, number = _ICMP.unpack_from(body)
        return number if (kind, found) == (self.reply, ident) else None


def ask(namespaces: Namespaces, namespace: str, asked: Sequence[Echo], seconds: float) -> list[float | None]:
    """See `cnm.kernel.contract.Kernel.echo`."""
    answered: list[float | None] = [None] * len(asked)
    for version in (4, 6):
        numbers = [n for n, each in enumerate(asked) if (":" in each.address) == (version == 6)]
        if not numbers:
            continue
        family = _Family(version)
        with namespaces.inside(namespace):
            opened = family.open()
        with opened:
            found = _Conversation(opened, family, [asked[n] for n in numbers]).run(seconds)
        for number, rtt in zip(numbers, found, strict=True):
            answered[number] = rtt
    return answered


class _Conversation:
    """Requests through one socket."""

    def __init__(self, opened: socket.socket, family: _Family, asked: Sequence[Echo]) -> None:
        self._socket, self._family, self._asked = opened, family, asked
        self._ident = int.from_bytes(os.urandom(2))
        self._mark = os.urandom(_MARK.size)
        self._sent = [0.0] * len(asked)
        self._answered: list[float | None] = [None] * len(asked)
        self._open = 0
        """Requests that are sent and not answered."""

    def run(self, seconds: float) -> list[float | None]:
        """Seconds that each answer took."""
        deadline = 0.0
        for first in range(0, len(self._asked), _BURST):
            for number in range(first, min(first + _BURST, len(self._asked))):
                self._send(number)
            deadline = time.monotonic() + seconds
            self._take(time.monotonic())
        self._take(deadline)
        return self._answered

    def _send(self, number: int) -> None:
        address, size = self._asked[number]
        packet = self._family.packet(self._ident, number & 0xFFFF, self._mark, size)
        self._sent[number] = time.monotonic()
        try:
            self._socket.sendto(packet, (address, 0))
        except OSError:  # no route, or too big for the link: nobody will answer
            return
        self._open += 1

    def _take(self, deadline: float) -> None:
        """Answers, until all are there or it is late."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while self._open:
            left = max(0.0, deadline - time.monotonic())
            if not poll.poll(left * 1000):
                return
            try:
                answer = self._socket.recv(_ENOUGH, socket.MSG_DONTWAIT)
            except OSError:  # what ICMP says of one that we sent
                continue
            number = self._family.number(answer, self._ident, self._mark)
            if number is not None and number < len(self._asked) and self._answered[number] is None:
                self._answered[number] = time.monotonic() - self._sent[number]
                self._open -= 1


def knock(namespaces: Namespaces, namespace: str, asked: Sequence[Port], seconds: float) -> list[int]:
    """See `cnm.kernel.contract.Kernel.knock`."""
    with ExitStack() as closing, namespaces.inside(namespace):
        trying = {}
        said = [errno.ETIMEDOUT] * len(asked)
        for number, port in enumerate(asked):
            opened = closing.enter_context(_stream(port.address))
            said[number] = opened.connect_ex((port.address, port.port))
            if said[number] == errno.EINPROGRESS:
                said[number] = errno.ETIMEDOUT
                trying[opened.fileno()] = number, opened
        for number, error in _outcomes(trying, seconds):
            said[number] = error
        return said


def _stream(address: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    opened.setblocking(False)
    return opened


def _outcomes(trying: dict[int, tuple[int, socket.socket]], seconds: float) -> Iterator[tuple[int, int]]:
    """(number, errno) of connections that came to something in time."""
    poll = select.poll()
    for descriptor in trying:
        poll.register(descriptor, select.POLLOUT)
    deadline = time.monotonic() + seconds
    while trying:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            return
        for descriptor, _ in ready:
            number, opened = trying.pop(descriptor)
            poll.unregister(descriptor)
            yield number, opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
