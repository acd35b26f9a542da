"""Files that others have mounted or open: what is in them changes, the file does not.

Between two steps there is the old content or the new in it, and at most empty lines behind; never less of either. What
is added at the end is one write. Else the file is as long as the longer of both, filled up with empty lines, while the
new content goes over the old in one write; it is cut to its length after that. Only a reader who comes in the very
moment of that write sees the beginning of one and the end of the other: that much the kernel does not keep apart.
Nothing waits for the disk: after a power cut a file may be empty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

_MODE = 0o644
_MOST_OFTEN = 4096
"""Bytes; few of these files are longer."""


def rewrite(path: str, change: Callable[[bytes], bytes]) -> bytes | None:
    """Put `change(content)` in the place of the content, b"" where the file is missing; it is made then.

    The content before, None where it stays. Raises OSError, and leaves what was there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        before = _read(descriptor)
        after = change(before)
        if after == before:
            return None
        if not before:
            os.fchmod(descriptor, _MODE)  # whatever this process's umask: programs of other users read it
        try:
            _replace(descriptor, before, after)
        except OSError:
            os.pwrite(descriptor, before, 0)
            os.ftruncate(descriptor, len(before))
            raise
        return before
    finally:
        os.close(descriptor)


def read(path: str) -> bytes:
    """The content, b"" of a file that is missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    content = os.pread(descriptor, _MOST_OFTEN, 0)
    if len(content) < _MOST_OFTEN:
        return content
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _replace(descriptor: int, before: bytes, after: bytes) -> None:
    size, growth = len(before), len(after) - len(before)
    if after.startswith(before):
        _write(descriptor, after[size:], size)
        return
    if growth > 0:
        _write(descriptor, b"\n" * growth, size)
    _write(descriptor, after.ljust(size, b"\n"), 0)
    if growth < 0:
        os.ftruncate(descriptor, len(after))


def _write(descriptor: int, content: bytes, offset: int) -> None:
    if os.pwrite(descriptor, content, offset) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
