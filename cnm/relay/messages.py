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

from cnm.sidecar import packets

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
    """HELLO: the network namespace that the relay runs in, as `packets.namespace_identity` names it."""

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
        try:
            fields = json.loads(packet)
            verb = Verb(fields.pop("verb"))
            if any(type(value) is not type(cls._field_defaults[name]) for name, value in fields.items()):
                raise ValueError("a field of the wrong type")
            return cls(verb, **fields)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"not a message: {packet!r}: {error}") from None


def send(channel: socket.socket, message: Message, descriptor: int | None = None) -> None:
    """Raises OSError as `packets.send`."""
    packets.send(channel, message.encode(), () if descriptor is None else (descriptor,))


def receive(channel: socket.socket) -> tuple[Message, socket.socket | None] | None:
    """The next message and the socket that came with it, which the caller owns; None when the other side is gone.

    Raises OSError as recvmsg(2), ValueError for a packet that is no message.
    """
    packet = packets.receive(channel, _MAX_MESSAGE)
    if packet is None:
        return None
    try:
        message = Message.decode(packet.content)
        carried = socket.socket(fileno=packet.descriptors[0]) if packet.descriptors else None
    except (ValueError, OSError):
        packet.close()
        raise
    for surplus in packet.descriptors[1:]:
        os.close(surplus)
    return message, carried


def control_path(run_dir: str) -> str:
    return os.path.join(run_dir, "relay.sock")
