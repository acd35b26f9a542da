"""The disk, where it matters: what it refuses is told to a user, and what was written is there after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cnm.errors import CnmError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """An OSError of the block is raised as CnmError: `what` is not done, and why; on a full disk, with the remedy."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        remedy = ": make room, and try again" if error.errno in _FULL else ""
        raise CnmError(f"{what}: {why}{remedy}") from None


def refusal(error: OSError, path: str = "") -> str:
    """What the system refuses, and where: only calls with a path know it, else it is `path`."""
    return ": ".join(filter(None, (error.filename or path, (error.strerror or str(error)).lower())))


def says_full(error: BaseException) -> bool:
    """Whether what went wrong is a full disk, by its words."""
    return any(os.strerror(number).lower() in str(error).lower() for number in _FULL)


def replace(path: str, content: bytes) -> None:
    """A file, whole and on the disk when this returns; where it raises OSError, the one before is as it was."""
    fresh = f"{path}.new"
    try:
        with open(fresh, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
        _flush_names(os.path.dirname(path))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def drop_unfinished(path: str) -> None:
    """What a `replace` of this file has left that was killed."""
    with contextlib.suppress(OSError):
        os.unlink(f"{path}.new")


def _flush_names(folder: str) -> None:
    """A file's new name is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
