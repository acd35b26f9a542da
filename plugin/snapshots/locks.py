"""Locks of folders, which the plugin and its command line, processes of their own, share; a kill lets go of them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cnm.errors import Unavailable

PATIENCE = 60.0
"""Seconds, fewer than dockerd waits for a mount."""
_PAUSE = 0.02


@contextmanager
def locked(folder: str, about: str, *, exclusive: bool = True, seconds: float = PATIENCE) -> Iterator[None]:
    """The folder is held for as long as the block lasts, and is still at its path when the block begins.

    Raises FileNotFoundError where it is not (any more), Unavailable naming `about` where others hold it for too long.
    """
    deadline = time.monotonic() + seconds
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not _taken(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
            if time.monotonic() >= deadline:
                raise Unavailable(f"{about} is being copied: try again when that is done")
            time.sleep(_PAUSE)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(folder)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
