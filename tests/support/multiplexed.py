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
    streams: defaultdict[int, bytes] = defaultdict(bytes)
    while content:
        number, zeros, length = struct.unpack_from(">B3sL", content)
        assert zeros == b"\0\0\0"
        assert len(content) >= 8 + length
        streams[number] += content[8 : 8 + length]
        content = content[8 + length :]
    return dict(streams)
