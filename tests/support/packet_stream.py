"""A stream of numbered datagrams at a steady rate, and which of them arrived: ping(8) slows down where it loses one."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Protocol


class Sockets(Protocol):
    """A host, or a namespace."""

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket: ...


RATE = 1000
"""Datagrams a second."""
_NUMBER = struct.Struct("!Q")
_QUIET_SECONDS = 0.5
_BUFFER_BYTES = 1 << 22
_SO_RCVBUFFORCE = 33


class PacketStream:
    """One way, from its creation until `stop`."""

    def __init__(self, sender: Sockets, source: str, receiver: Sockets, target: str) -> None:
        """Bare addresses of the two."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self._receiving = receiver.socket(family, socket.SOCK_DGRAM)
        self._receiving.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._receiving.bind((target, 0))
        self._receiving.settimeout(_QUIET_SECONDS)
        self._sending = sender.socket(family, socket.SOCK_DGRAM)
        self._sending.bind((source, 0))
        self._target = (target, self._receiving.getsockname()[1])
        self._ending = threading.Event()
        self._arrived: set[int] = set()
        self.sent = 0
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> int:
        """How many of those that were `sent` did not arrive."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._sending.close()
        self._receiving.close()
        return self.sent - len(self._arrived)

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
