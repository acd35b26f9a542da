"""The client's side of a taken-over connection: reads Docker's frames, or raw bytes."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict


def read_all(client: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    """At least up to `wanted`."""
    content = b""
    while wanted not in content:
        piece = client.recv(65536)
        assert piece, f"the connection ended before {wanted!r}: {content!r}"
        content += piece
    return content


def split(content: bytes) -> dict[int, bytes]:
    """The frames' contents, by stream."""
    streams: defaultdict[int, bytearray] = defaultdict(bytearray)
    position = 0
    while position < len(content):
        number, zeros, length = struct.unpack_from(">B3sL", content, position)
        assert zeros == b"\0\0\0"
        position += 8
        assert len(content) >= position + length
        streams[number] += content[position : position + length]
        position += length
    return {number: bytes(said) for number, said in streams.items()}
