"""Opens what lies deeper than a path may be long (PATH_MAX), one stretch of the way after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cnm.kernel.openat2 import open_in_root

_STRETCH = 4095
"""Bytes that the kernel takes at once (PATH_MAX, without the NUL)."""
_ON_THE_WAY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def open_below(root: int, path: str, flags: int) -> int:
    """A descriptor of `path` below the directory `root`, "" for that itself; nothing leads out of it. Raises OSError.

    As `open_in_root`; of a longer path each stretch stands for the root of the next.
    """
    *stretches, last = _stretches(os.fsencode(path))
    directory = os.dup(root)
    try:
        for stretch in stretches:
            before, directory = directory, open_in_root(directory, os.fsdecode(stretch), _ON_THE_WAY)
            os.close(before)
        return open_in_root(directory, os.fsdecode(last) or ".", flags)
    finally:
        os.close(directory)


def _stretches(path: bytes) -> Iterator[bytes]:
    while len(path) > _STRETCH:
        end = path.rfind(b"/", 0, _STRETCH)
        if end < 0:
            break  # which no file system has
        yield path[:end]
        path = path[end + 1 :]
    yield path
