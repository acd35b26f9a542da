"""Deletes what containers wrote, however deep they nested it: neither paths, the stack nor descriptors run out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete(path: str) -> None:
    """A directory and everything in it, which nobody else changes any more; nothing there is fine. Raises OSError.

    Directories inside others are moved to the top, one level at a time, and emptied there.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        taken = set(os.listdir(top))
        fresh = (name for number in itertools.count() if (name := f"deleted-{number}") not in taken)
        while names := os.listdir(top):
            for name in names:
                _delete_entry(top, name, fresh)
    finally:
        os.close(top)
    os.rmdir(path)


def _delete_entry(top: int, name: str, fresh: Iterator[str]) -> None:
    if _unlinked(top, name):
        return
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for inner in os.listdir(directory):
            if not _unlinked(directory, inner):
                os.rename(inner, next(fresh), src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)


def _unlinked(directory: int, name: str) -> bool:
    """Whether it was something that can be unlinked, and no directory (unlink(2): EISDIR on Linux)."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True
