"""The form in which a directory tree travels: frames of MessagePack, each behind its length (4 bytes, big-endian).

A node comes before what is in it; the content of a file follows it, as far as it is no hole. A stream that has no `End`
was cut off.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from cnm.errors import InvalidParameter

LONGEST_CONTENT = 1 << 18
"""Bytes of a file in one frame."""
_LONGEST = LONGEST_CONTENT + (1 << 20)
"""Of a frame: attributes have 64 KiB each."""
_LENGTH = struct.Struct(">I")


class Node(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="node"):
    """Anything that has a name; `path` is below the tree, b"" for the tree itself."""

    path: bytes
    mode: int
    """With the kind, as stat(2) has it."""
    user: int
    group: int
    accessed: int
    modified: int
    """Nanoseconds since 1970."""
    size: int = 0
    """Of a file, holes included."""
    device: int = 0
    """Of a device."""
    target: bytes = b""
    """Of a symlink."""
    attributes: dict[str, bytes] = {}


class Link(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="link"):
    """Another name of a file that came before."""

    path: bytes
    first: bytes


class Content(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="content"):
    """Of the file that came last."""

    offset: int
    data: bytes


class End(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="end"):
    """How many names there were."""

    names: int


Frame = Node | Link | Content | End

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def packed(frame: Frame) -> bytes:
    content = _encode(frame)
    return _LENGTH.pack(len(content)) + content


def unpacked(stream: BinaryIO) -> Iterator[Frame]:
    """Up to the end. Raises InvalidParameter for what is cut off or no such stream, OSError as the stream does."""
    reader: BinaryIO = io.BufferedReader(_Raw(stream), LONGEST_CONTENT)
    while True:
        (length,) = _LENGTH.unpack(_read(reader, _LENGTH.size))
        if length > _LONGEST:
            raise InvalidParameter(f"a frame of {length} bytes is longer than any")
        try:
            frame = _decoder.decode(_read(reader, length))
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"a frame makes no sense: {error}") from None
        yield frame
        if isinstance(frame, End):
            return


def _read(reader: BinaryIO, length: int) -> bytes:
    found = reader.read(length)
    if len(found) < length:
        raise InvalidParameter("the stream was cut off")
    return found


class _Raw(io.RawIOBase):
    """A stream of HTTP, whose small reads are slow."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        found = self._stream.read(len(view))
        view[: len(found)] = found
        return len(found)
