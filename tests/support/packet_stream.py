"""A stream of numbered datagrams at a steady rate, and which of them arrived: ping(8) slows down where it loses one."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Place(Protocol):
    """A host, or a namespace."""

    def enter(self) -> AbstractContextManager[None]: ...

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket: ...


RATE = 1000
"""Datagrams a second."""
_NUMBER = struct.Struct("!Q")
_QUIET_SECONDS = 0.5
_BUFFER_BYTES = 1 << 22
_SO_RCVBUFFORCE = 33
_DROPPED_SENDING = 12
"""The column of /proc/net/dev."""


class PacketStream:
    """One way, from its creation until `stop`."""

    def __init__(
        self, sender: Place, source: str, receiver: Place, target: str, through: Sequence[Place] = ()
    ) -> None:
        """Bare addresses of the two; `through` are hosts on the way where processes take packets in."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self._receiving = receiver.socket(family, socket.SOCK_DGRAM)
        self._receiving.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._receiving.bind((target, 0))
        self._receiving.settimeout(_QUIET_SECONDS)
        self._sending = sender.socket(family, socket.SOCK_DGRAM)
        self._sending.bind((source, 0))
        self._target = (target, self._receiving.getsockname()[1])
        self._through = through
        self._crowded_before = self._crowded_out()
        self._ending = threading.Event()
        self._arrived: set[int] = set()
        self.sent = 0
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> int:
        """How many of those that were `sent` did not arrive, but for those that a process on the way had no time for:
        on a machine with much to do wireguard-go's queues overflow, whatever becomes of tunnels."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._sending.close()
        self._receiving.close()
        # A counter that is gone, as its link is, counts nothing.
        crowded = self._crowded_out() - self._crowded_before
        return max(0, self.sent - len(self._arrived) - crowded.total())

    def _crowded_out(self) -> Counter[tuple[int, str]]:
        """Packets that found no room so far, by host and place."""
        return Counter(
            {
                (number, where): packets
                for number, host in enumerate(self._through)
                for where, packets in _overflows(host).items()
            }
        )

    def _send(self) -> None:
        """What was late is made up for; what cannot be sent at all counts as sent."""
        began = time.monotonic()
        while not self._ending.is_set():
            with contextlib.suppress(OSError):
                self._sending.sendto(_NUMBER.pack(self.sent), self._target)
            self.sent += 1
            time.sleep(max(0.0, began + self.sent / RATE - time.monotonic()))

    def _receive(self) -> None:
        """Until nothing has come for a while after the end."""
        while True:
            try:
                data = self._receiving.recv(_NUMBER.size)
            except TimeoutError:
                if self._ending.is_set():
                    return
                continue
            self._arrived.add(_NUMBER.unpack(data)[0])


def _overflows(place: Place) -> dict[str, int]:
    """Of the receive buffers of UDP sockets, and of the queues of tunnels' interfaces by their names."""
    with place.enter():
        here = Path("/proc/thread-self/net")
        names, values = (
            line.split() for line in (here / "snmp").read_text().splitlines() if line.startswith("Udp:")
        )
        ipv6 = dict(line.split() for line in (here / "snmp6").read_text().splitlines())
        links = [
            line.split() for line in (here / "dev").read_text().splitlines() if line.strip().startswith("cw")
        ]
    buffers = int(values[names.index("RcvbufErrors")]) + int(ipv6.get("Udp6RcvbufErrors", 0))
    return {"buffers": buffers} | {link[0]: int(link[_DROPPED_SENDING]) for link in links}
