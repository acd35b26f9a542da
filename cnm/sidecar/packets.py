"""Packets of a SOCK_SEQPACKET socket, and the descriptors that travel with them."""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Sequence
from typing import NamedTuple

MOST_DESCRIPTORS = 64
_ANCILLARY = socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)


class Packet(NamedTuple):
    """What arrived; the descriptors are the receiver's."""

    content: bytes
    descriptors: list[int]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def send(channel: socket.socket, content: bytes, descriptors: Sequence[int] = ()) -> None:
    """Raises OSError as sendmsg(2); BlockingIOError when the queue is full and the channel does not wait."""
    socket.send_fds(channel, [content], list(descriptors))


def receive(channel: socket.socket, longest: int) -> Packet | None:
    """The next packet, cut off after `longest` bytes; None when the other side is gone. Raises OSError."""
    # Not socket.recv_fds: it loses its flags in Python 3.11, and children would inherit the sockets.
    content, ancillary, _flags, _ = channel.recvmsg(longest, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    return Packet(content, _descriptors(ancillary)) if content else None


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def namespace_identity() -> str:
    """The network namespace of the calling thread, as device and inode (namespaces(7))."""
    found = os.stat("/proc/thread-self/ns/net")
    return f"{found.st_dev}:{found.st_ino}"
