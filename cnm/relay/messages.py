"""What cnmd and the relay say to each other: one JSON object per packet of a SOCK_SEQPACKET socket.

The relay greets with HELLO. cnmd asks LIST, SERVE (with the socket as SCM_RIGHTS), DROP or END, and may ask much
before it reads an answer. Every question is answered in its turn by one DONE; LIST first by a HELD for each relay,
with a duplicate of its socket, so that a restarted cnmd gets the host ports back that it had reserved.
"""

from __future__ import annotations

import json
import os
import socket
from enum import StrEnum
from typing import NamedTuple

VERSION = 1
"""A cnmd that meets another version ends that relay and starts its own."""

_MAX_MESSAGE = 4096
"""Bytes; an id of the longest host address and a target stay far below."""


class Verb(StrEnum):
    """What a message is for."""

    HELLO = "hello"
    LIST = "list"
    HELD = "held"
    SERVE = "serve"
    DROP = "drop"
    END = "end"
    DONE = "done"


class Message(NamedTuple):
    """One message; fields that its verb has no use for stay at their defaults."""

    verb: Verb
    id: str = ""
    """SERVE, DROP, HELD: which relay."""
    protocol: str = ""
    """SERVE, HELD: "tcp" or "udp"."""
    address: str = ""
    """SERVE, HELD: the target, bare IPv4 or IPv6 text."""
    port: int = 0
    error: str = ""
    """DONE: why not, one lower-case clause; "" when it is done."""
    version: int = 0
    """HELLO."""
    pid: int = 0
    """HELLO: the relay's."""
    namespace: str = ""
    """HELLO: the network namespace that the relay runs in, as `namespace_identity` names it."""

    def encode(self) -> bytes:
        """Raises ValueError for a message that no packet can carry."""
        given = {name: value for name, value in self._asdict().items() if value}
        packet = json.dumps(given).encode()
        if len(packet) > _MAX_MESSAGE:
            raise ValueError(f"a message of {len(packet)} bytes is too long")
        return packet

    @classmethod
    def decode(cls, packet: bytes) -> Message:
        """Raises ValueError for anything that is not a message."""
        fields = json.loads(packet)
        if not isinstance(fields, dict) or not fields.keys() <= set(cls._fields):
            raise ValueError(f"not a message: {packet!r}")
        return cls(**{**fields, "verb": Verb(fields.get("verb", ""))})


def send(channel: socket.socket, message: Message, descriptor: int | None = None) -> None:
    """Raises OSError as sendmsg(2); BlockingIOError when the queue is full and the channel does not wait."""
    socket.send_fds(
        channel, [message.encode()], [] if descriptor is None else [descriptor], socket.MSG_NOSIGNAL
    )


def receive(channel: socket.socket) -> tuple[Message, socket.socket | None] | None:
    """The next message and the socket that came with it, which the caller owns; None when the other side is gone.

    Raises OSError as recvmsg(2), ValueError for a packet that is no message.
    """
    packet, descriptors, _flags, _ = socket.recv_fds(channel, _MAX_MESSAGE, 4, socket.MSG_CMSG_CLOEXEC)
    if not packet:
        return None
    try:
        message = Message.decode(packet)
        carried = socket.socket(fileno=descriptors[0]) if descriptors else None
    except (ValueError, OSError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for surplus in descriptors[1:]:
        os.close(surplus)
    return message, carried


def namespace_identity() -> str:
    """The network namespace of the calling thread, as device and inode (namespaces(7))."""
    found = os.stat("/proc/thread-self/ns/net")
    return f"{found.st_dev}:{found.st_ino}"
