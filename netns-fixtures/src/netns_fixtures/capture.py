"""Collect the packets that pass an interface, as scapy packets, and assert what arrived.

The AF_PACKET socket is opened here and not by scapy, whose own ones look interfaces and routes up in the
namespace where scapy happened to be imported. Packets wait in the socket's buffer until someone asks, so
there is no thread.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from netns_fixtures.errors import KernelRefused
from netns_fixtures.namespace import Namespace

Predicate = Callable[[Packet], bool]
"""What selects packets: `match(...)`, or any function of a scapy packet."""

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_AUXDATA = 8
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TP_STATUS_VLAN_VALID = 0x10
_ETHERNET_LIKE = {1, 772}
"""ARPHRD_ETHER and ARPHRD_LOOPBACK of <linux/if_arp.h>: frames that begin with an Ethernet header."""

_FRAME = 0x1FFFF
_BUFFER_BYTES = 32 * 1024 * 1024
_SHOWN = 40
_WATCH_SECONDS = 0.3
_FENCE_SECONDS = 2.0


def any_packet(_packet: Packet) -> bool:
    """The predicate that every packet fits."""
    return True


class Capture:
    """The packets of one interface, in both directions, since the capture was made and until it is closed.

    A packet's `direction` is socket.PACKET_OUTGOING if the host sent it, else PACKET_HOST, _BROADCAST,
    _MULTICAST or _OTHERHOST; `sniffed_on` is the interface and `time` the kernel's time stamp.
    """

    def __init__(
        self, namespace: Namespace, interface: str, keep: Predicate = any_packet, where: str = ""
    ) -> None:
        self.where = where or interface
        self._keep = keep
        self._kept: list[Packet] = []
        self._lock = threading.RLock()
        self._lost = 0
        self._socket = _listen(namespace, interface, self.where)

    @property
    def packets(self) -> list[Packet]:
        """What arrived so far, oldest first, without what the capture's filter refuses."""
        with self._lock:
            self._drain()
            return list(self._kept)

    def wait_for(self, predicate: Predicate, timeout: float = 2.0) -> Packet | None:
        """The first packet that fits, waited for at most `timeout` seconds; None if none came."""
        deadline = time.monotonic() + timeout
        examined = 0
        while True:
            packets = self.packets
            for packet in packets[examined:]:
                if predicate(packet):
                    return packet
            examined = len(packets)
            if not self._await_more(deadline):
                return None

    def expect(self, predicate: Predicate, timeout: float = 2.0) -> Packet:
        """The first packet that fits; AssertionError, listing what came instead, if none does in time."""
        packet = self.wait_for(predicate, timeout)
        if packet is None:
            raise AssertionError(
                f"{_described(predicate)} did not pass {self.where} in {timeout} s\n{self.summary()}"
            )
        return packet

    def expect_none(
        self, predicate: Predicate, *, until: Predicate | None = None, timeout: float | None = None
    ) -> None:
        """AssertionError if a packet that fits has passed, or does so within `timeout` seconds (default 0.3).

        With `until` the watch ends at the first packet that fits *that*, so that nothing waits for the clock:
        send the forbidden packet, then one that is allowed the same way. It is an error if the allowed one does
        not come in time (default 2 seconds).
        """
        if timeout is None:
            timeout = _FENCE_SECONDS if until else _WATCH_SECONDS
        last = self.wait_for(
            lambda packet: predicate(packet) or (until is not None and until(packet)), timeout
        )
        if last is not None and predicate(last):
            raise AssertionError(
                f"{_described(predicate)} passed {self.where}, and should not\n{self.summary()}"
            )
        if until is not None and last is None:
            raise AssertionError(
                f"{_described(until)}, the end of the watch, did not pass {self.where}\n{self.summary()}"
            )
        if self._lost:
            raise AssertionError(f"{self.where}: {self._lost} packets were lost, so absence is not proved")

    def summary(self) -> str:
        """What arrived, a line each, as it appears in assertion messages."""
        packets = self.packets
        lines = [_line(packet) for packet in packets[:_SHOWN]]
        if len(packets) > _SHOWN:
            lines.append(f"  ... and {len(packets) - _SHOWN} more")
        return "\n".join([f"{self.where} saw {len(packets)} packets", *lines])

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() == -1

    def close(self) -> None:
        """Stop collecting; `packets` and the assertions still tell of what came until now."""
        with self._lock:
            self._drain()
            self._socket.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await_more(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or self.closed:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(left * 1000))

    def _drain(self) -> None:
        while not self.closed:
            try:
                packet = _received(self._socket)
            except BlockingIOError:
                break
            if self._keep(packet):
                self._kept.append(packet)
        if not self.closed:
            _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
            self._lost += dropped


def _listen(namespace: Namespace, interface: str, where: str) -> socket.socket:
    """A socket that hears one interface; protocol 0 until it is bound, or it would hear all of them first."""
    listener = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        listener.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        listener.setblocking(False)
        listener.bind((interface, _ETH_P_ALL))
    except OSError as error:
        listener.close()
        raise KernelRefused(f"cannot capture on {where}: {error.strerror}") from error
    return listener


def _received(listener: socket.socket) -> Packet:
    frame, ancillary, _, (interface, protocol, direction, hardware, _) = listener.recvmsg(_FRAME, 256)
    stamp = time.time()
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            frame = _with_vlan_tag(frame, data)
        elif (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data)
            stamp = seconds + nanoseconds / 1e9
    packet = _dissected(frame, hardware, protocol)
    packet.time, packet.sniffed_on, packet.direction = stamp, interface, direction
    return packet


def _with_vlan_tag(frame: bytes, auxdata: bytes) -> bytes:
    """Put back the VLAN tag that the kernel takes off and reports beside the frame (packet(7))."""
    status, _, _, _, _, tag, protocol = struct.unpack("IIIHHHH", auxdata[:20])
    if not status & _TP_STATUS_VLAN_VALID:
        return frame
    return frame[:12] + struct.pack("!HH", protocol or 0x8100, tag) + frame[12:]


def _dissected(frame: bytes, hardware: int, protocol: int) -> Packet:
    if hardware in _ETHERNET_LIKE:
        return Ether(frame)
    return {0x0800: IP, 0x86DD: IPv6}.get(protocol, Raw)(frame)


def _line(packet: Packet) -> str:
    arrow = "out" if packet.direction == socket.PACKET_OUTGOING else "in "
    macs = f"{packet.src} > {packet.dst}  " if isinstance(packet, Ether) else ""
    return f"  {arrow} {macs}{packet.summary()}"


def _described(predicate: Predicate) -> str:
    name = getattr(predicate, "__name__", str(predicate))
    return f"a packet ({'as the lambda selects' if name == '<lambda>' else name})"
