"""A layer as a file named by its digest: from a tar that came in, or from an overlay's directory."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, NamedTuple, cast

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.modes import UserMapping
from cnm.launcher.packing import END, Packer

_CHUNK = 1 << 20
_MAGIC = 6
_EMPTY = f"sha256:{hashlib.sha256(END).hexdigest()}"


class Blob(NamedTuple):
    """A layer, uncompressed."""

    digest: str
    """ "sha256:" and 64 hex digits."""
    size: int
    """Bytes."""

    @property
    def is_empty(self) -> bool:
        return self.digest == _EMPTY


def written(directory: str, chunks: Iterable[bytes]) -> Blob:
    """A new file in `directory`, named by the hex digits of its digest."""
    path = os.path.join(directory, "layer")
    digest, size = hashlib.sha256(), 0
    with open(path, "xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    os.rename(path, os.path.join(directory, digest.hexdigest()))
    return Blob(f"sha256:{digest.hexdigest()}", size)


def changes_of(upper: str, mapping: UserMapping | None = None) -> Iterator[bytes]:
    """An overlay's upper directory as the tar of a layer, with whiteouts in the form of layers; it need not exist yet.

    `mapping`: of the users that have written it; the layer has their ids inside.
    """
    try:
        top = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # it has never been mounted
        yield END
        return
    try:
        yield from Packer(top, layer=True, mapping=mapping).tree(".", "")
        yield END
    finally:
        os.close(top)


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Raises InvalidParameter where a compressed stream is damaged, CnmError where it does not come."""
    try:
        while chunk := stream.read(_CHUNK):
            yield chunk
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:  # bz2 and gzip raise OSError
        raise InvalidParameter(f"the archive cannot be decompressed: {error}") from None


@contextmanager
def decompressed(stream: BinaryIO) -> Iterator[IO[bytes]]:
    """What gzip, bzip2 or xz made smaller, and anything else as it is."""
    source = _Source(stream)
    magic = source.begin(_MAGIC)
    peeked = io.BufferedReader(cast(io.RawIOBase, source), _CHUNK)
    if magic.startswith(b"\x1f\x8b"):
        yield cast(IO[bytes], gzip.GzipFile(fileobj=peeked))
    elif magic.startswith(b"BZh"):
        yield bz2.BZ2File(peeked)
    elif magic.startswith(b"\xfd7zXZ"):
        yield lzma.LZMAFile(peeked)  # noqa: SIM115 - `peeked` is the caller's to close
    else:
        yield cast(IO[bytes], source)


def require_tar(path: str) -> None:
    """Raises InvalidParameter for a file that is no tar; an empty one is, for Docker."""
    try:
        with tarfile.open(path, "r:") as archive:
            archive.next()
    except (tarfile.TarError, ValueError) as error:  # the latter of texts where numbers should be
        if os.path.getsize(path):
            raise InvalidParameter(f"the archive cannot be read: {error}") from None


class _Source(io.RawIOBase):
    """Any object with `read`. What it fails with is no fault of the archive's."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._first = b""

    def begin(self, size: int) -> bytes:
        """The first bytes, which are read once more later."""
        while len(self._first) < size and (more := self._taken(size - len(self._first))):
            self._first += more
        return self._first

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none at the end; as they come, without the copies of a buffer."""
        if size < 0:
            return self.readall()
        first, self._first = self._first[:size], self._first[size:]
        return first or self._taken(size)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _taken(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise CnmError(f"the archive does not come any more: {error.strerror or error}") from None
