"""What a container changed in its image's files: Docker's diff, from the overlay's upper directory.

Which differences count is Docker's rule (its pkg/archive, changes.go of 20.10): a file's mode, owner, device, size,
time and capabilities; a directory's mode and owner; and a directory that something changed in.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from cnm.errors import CnmError
from cnm.kernel.openat2 import open_in_root
from cnm.launcher.modes import UserMapping
from cnm.launcher.overlays import Seen, is_opaque, is_whiteout, look_up, names
from cnm.launcher.ownership import CAPABILITIES, capabilities_inside, owner

_GONE = (FileNotFoundError, NotADirectoryError)


class Kind(Enum):
    """The letter is what `docker diff` prints, `number` what the Engine API says."""

    MODIFIED = "C"
    ADDED = "A"
    DELETED = "D"

    @property
    def number(self) -> int:
        return "CAD".index(self.value)


class Change(NamedTuple):
    kind: Kind
    path: str
    """Absolute, inside the container."""


class _Entry(NamedTuple):
    name: str
    status: os.stat_result
    capabilities: bytes


def changes(upper: str, lowers: tuple[str, ...], mapping: UserMapping | None = None) -> list[Change]:
    """Sorted, so that a directory comes before what is in it. `lowers`: directories of layers, the topmost first.

    `mapping`: of the users that have written what is in `upper`. The container may go on writing meanwhile: nothing
    outside of `upper` is looked at, and what goes is left out.
    Raises CnmError for directories nested too deeply to be named.
    """
    with _opened(upper) as root:
        try:
            return sorted(_inside(root, "", lowers, mapping), key=lambda change: change.path)
        except (RecursionError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else "directories are nested too deeply"
            raise CnmError(f"cannot tell the changes in {upper}: {why}") from None


def written(upper: str, until: float = math.inf) -> int:
    """Bytes of the files below; one with several names counts once, directories do not. Raises as `changes` does.

    Raises TimeoutError where it is not done by `until`, a time of the monotonic clock.
    """
    sizes: dict[int, int] = {}
    waiting = [""]
    with _opened(upper) as root:
        while waiting:
            if time.monotonic() >= until:
                raise TimeoutError(f"the size of {upper} takes too long to tell")
            path = waiting.pop()
            try:
                found, _ = _entries(root, path)
            except OSError as error:
                raise CnmError(f"cannot tell the size of {upper}: {error.strerror}") from None
            waiting.extend(f"{path}/{entry.name}" for entry in found if stat.S_ISDIR(entry.status.st_mode))
            sizes.update(
                (entry.status.st_ino, entry.status.st_size)
                for entry in found
                if not stat.S_ISDIR(entry.status.st_mode)
            )
    return sum(sizes.values())


@contextmanager
def _opened(upper: str) -> Iterator[int]:
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


def _entries(root: int, path: str) -> tuple[list[_Entry], bool]:
    """What is in the directory `path` of the upper one, and whether that hides what is below it."""
    try:
        directory = open_in_root(root, path or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except _GONE:
        return [], False
    place = f"/proc/self/fd/{directory}"
    try:
        names = os.listdir(directory)
        return [entry for name in names if (entry := _entry(directory, place, name))], is_opaque(f"{place}/.")
    finally:
        os.close(directory)


def _entry(directory: int, place: str, name: str) -> _Entry | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except _GONE:
        return None
    is_file = stat.S_ISREG(status.st_mode)
    return _Entry(name, status, _capabilities(f"{place}/{name}") if is_file else b"")


def _inside(root: int, path: str, lowers: tuple[str, ...], mapping: UserMapping | None) -> Iterator[Change]:
    """Of a directory that both have, or, without lowers, of a new one."""
    entries, opaque = _entries(root, path)
    for entry in entries:
        yield from _of_entry(root, entry, f"{path}/{entry.name}", lowers, mapping)
    if lowers and opaque:
        gone = names(lowers) - {entry.name for entry in entries}
        yield from (Change(Kind.DELETED, f"{path}/{name}") for name in gone)


def _of_entry(
    root: int, entry: _Entry, path: str, lowers: tuple[str, ...], mapping: UserMapping | None
) -> Iterator[Change]:
    below = look_up(lowers, entry.name)
    if is_whiteout(entry.status):
        if below is not None:
            yield Change(Kind.DELETED, path)
        return
    inner: list[Change] = []
    if stat.S_ISDIR(entry.status.st_mode):
        inner = list(_inside(root, path, below.directories if below else (), mapping))
    if below is None:
        yield Change(Kind.ADDED, path)
    elif inner or _differs(entry, below, mapping):
        yield Change(Kind.MODIFIED, path)
    yield from inner


def _differs(entry: _Entry, below: Seen, mapping: UserMapping | None) -> bool:
    now, before = entry.status, below.status
    if now.st_mode != before.st_mode or now.st_rdev != before.st_rdev:
        return True
    if owner(now, mapping) != owner(before, None):
        return True
    if stat.S_ISDIR(now.st_mode):
        return False
    if now.st_size != before.st_size or _time(now.st_mtime_ns, before.st_mtime_ns):
        return True
    if not stat.S_ISREG(now.st_mode):
        return False
    return capabilities_inside(entry.capabilities, mapping) != _capabilities(below.path)


def _time(one: int, other: int) -> bool:
    """Whether two times differ; one without a fraction of a second may come from a tar, and stands for any."""
    second = 1_000_000_000
    return one // second != other // second or (one != other and one % second != 0 and other % second != 0)


def _capabilities(path: str) -> bytes:
    try:
        found = os.getxattr(path, CAPABILITIES, follow_symlinks=False)
    except OSError:
        return b""
    return found
