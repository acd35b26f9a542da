"""UDP through the relay: a socket to the target for each client, forgotten when it was silent for long."""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
from select import EPOLLIN
from typing import Any, NamedTuple

from cnm.relay.tcp import Target
from cnm.sidecar.loop import Loop

log = logging.getLogger("cnm.relay")

IDLE = 90.0
"""Seconds of silence in both directions after which a client is forgotten; as in docker-proxy."""
CLIENTS = 1024
"""Clients of one relay; one more displaces the one that was silent for longest."""

_DATAGRAMS_PER_ROUND = 64
_BUFFER = memoryview(bytearray(65536))
_ANCILLARY = 64
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_IP_PKTINFO = 8
"""<asm-generic/socket.h>, <linux/in.h>: not in Python's socket module."""
_LINK_LOCAL = bytes([0xFE, 0x80])

_Ancillary = list[tuple[int, int, bytes]]


class _Client(NamedTuple):
    """Where a datagram came from, and which address of the host it reached, as the message that replies from it."""

    address: Any
    ours: tuple[int, int, bytes] | None


class _Flow:
    """The way of one client to the target and back."""

    __slots__ = ("client", "last", "socket")

    def __init__(self, client: _Client, target: Target) -> None:
        self.client = client
        self.last = 0.0
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self.socket.connect(target)
        except OSError:
            self.socket.close()
            raise


class UdpRelay:
    """A bound socket, open from now on, and the flows of its clients, the longest silent first."""

    protocol = "udp"

    def __init__(
        self, loop: Loop, front: socket.socket, target: Target, *, idle: float = IDLE, clients: int = CLIENTS
    ) -> None:
        """Raises OSError. Owns `front`, and detaches the filter that kept datagrams out of it."""
        self.socket = front
        self.target = target
        self._loop = loop
        self._idle = idle
        self._limit = clients
        self._flows: dict[_Client, _Flow] = {}
        self._by_descriptor: dict[int, _Flow] = {}
        self._sweeping = False
        front.setblocking(False)
        _report_destination(front)
        _detach_filter(front)
        loop.watch(front.fileno(), EPOLLIN, self)

    def ready(self, descriptor: int, events: int) -> None:
        if descriptor == self.socket.fileno():
            self._forward()
        elif flow := self._by_descriptor.get(descriptor):
            self._reply(flow)

    def close(self) -> None:
        """Forget the clients and drop datagrams again; duplicates of the socket keep the port reserved."""
        self._loop.forget(self.socket.fileno())
        _attach_drop_filter(self.socket)
        self.socket.close()
        for flow in list(self._flows.values()):
            self._forget(flow)

    def _forward(self) -> None:
        for _ in range(_DATAGRAMS_PER_ROUND):
            try:
                count, ancillary, _flags, address = self.socket.recvmsg_into([_BUFFER], _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier reply
            flow = self._flow(_Client(address, _reply_from(ancillary)))
            if flow is not None:
                _send_to_target(flow.socket, _BUFFER[:count])

    def _reply(self, flow: _Flow) -> None:
        ours = [] if flow.client.ours is None else [flow.client.ours]
        for _ in range(_DATAGRAMS_PER_ROUND):
            try:
                count = flow.socket.recv_into(_BUFFER)
            except BlockingIOError:
                return
            except OSError:
                continue  # the target's port is closed: the client would learn as little from a lost datagram
            self._touch(flow)
            try:
                self.socket.sendmsg([_BUFFER[:count]], ours, 0, flow.client.address)
            except OSError as error:
                log.debug("a reply to %s was lost: %s", flow.client.address, error.strerror)

    def _flow(self, client: _Client) -> _Flow | None:
        """The client's flow, made at its first datagram; None when that fails."""
        flow = self._flows.get(client)
        if flow is None:
            if len(self._flows) >= self._limit:
                self._forget(next(iter(self._flows.values())))
            try:
                flow = _Flow(client, self.target)
            except OSError as error:
                log.warning("%s port %d: %s", *self.target, error.strerror)
                return None
            self._by_descriptor[flow.socket.fileno()] = flow
            self._loop.watch(flow.socket.fileno(), EPOLLIN, self)
        self._touch(flow)
        return flow

    def _touch(self, flow: _Flow) -> None:
        flow.last = self._loop.clock()
        self._flows.pop(flow.client, None)
        self._flows[flow.client] = flow
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(self._idle, self._sweep)

    def _sweep(self) -> None:
        """Forget who was silent for too long, and come again when the next one may be."""
        now = self._loop.clock()
        while self._flows:
            oldest = next(iter(self._flows.values()))
            if now < oldest.last + self._idle:
                self._loop.call_later(oldest.last + self._idle - now, self._sweep)
                return
            self._forget(oldest)
        self._sweeping = False

    def _forget(self, flow: _Flow) -> None:
        del self._flows[flow.client]
        del self._by_descriptor[flow.socket.fileno()]
        self._loop.forget(flow.socket.fileno())
        flow.socket.close()


def _send_to_target(upstream: socket.socket, datagram: memoryview) -> None:
    for _ in range(2):
        try:
            upstream.send(datagram)
            return
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            continue  # this error is about an earlier datagram, and this one was not sent


def _report_destination(front: socket.socket) -> None:
    """Have each datagram say which address it reached: on a host of several, the reply must come from the same."""
    if front.family == socket.AF_INET6:
        front.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        front.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _reply_from(ancillary: _Ancillary) -> tuple[int, int, bytes] | None:
    """The control message (ip(7), ipv6(7)) that sends from the address that a datagram reached."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            # Only a link-local address needs its interface; any other may be answered on the way that routes say.
            interface = data[16:20] if data.startswith(_LINK_LOCAL) else bytes(4)
            return level, kind, data[:16] + interface
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return level, kind, bytes(4) + data[4:8] + bytes(4)
    return None


def _detach_filter(front: socket.socket) -> None:
    try:
        front.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return  # it had none


def _attach_drop_filter(front: socket.socket) -> None:
    """A filter of one instruction that keeps 0 bytes of every datagram (socket(7), SO_ATTACH_FILTER)."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    front.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
