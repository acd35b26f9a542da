"""What a container changed in its image's files: Docker's diff, from the overlay's upper directory.

Which differences count is Docker's rule (its pkg/archive, changes.go of 20.10): a file's mode, owner, device, size,
time and capabilities; a directory's mode and owner; and a directory that something changed in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from cnm.launcher.modes import UserMapping
from cnm.launcher.overlays import is_opaque, is_whiteout, look_up, names
from cnm.launcher.ownership import CAPABILITIES, capabilities_inside, owner


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


def changes(upper: str, lowers: tuple[str, ...], mapping: UserMapping | None = None) -> list[Change]:
    """Sorted, so that a directory comes before what is in it. `lowers`: directories of layers, the topmost first.

    `mapping`: of the users that have written what is in `upper`.
    """
    return sorted(_inside(upper, "", lowers, mapping), key=lambda change: change.path)


def _inside(upper: str, path: str, lowers: tuple[str, ...], mapping: UserMapping | None) -> Iterator[Change]:
    """Of a directory that both have, or, without lowers, of a new one."""
    seen = set()
    for entry in os.scandir(upper):
        seen.add(entry.name)
        yield from _of_entry(entry, f"{path}/{entry.name}", lowers, mapping)
    if lowers and is_opaque(upper):
        yield from (Change(Kind.DELETED, f"{path}/{name}") for name in names(lowers) - seen)


def _of_entry(
    entry: os.DirEntry[str], path: str, lowers: tuple[str, ...], mapping: UserMapping | None
) -> Iterator[Change]:
    status = entry.stat(follow_symlinks=False)
    below = look_up(lowers, entry.name)
    if is_whiteout(status):
        if below is not None:
            yield Change(Kind.DELETED, path)
        return
    inner: list[Change] = []
    if stat.S_ISDIR(status.st_mode):
        inner = list(_inside(entry.path, path, below.directories if below else (), mapping))
    if below is None:
        yield Change(Kind.ADDED, path)
    elif inner or _differs(entry.path, status, below.path, below.status, mapping):
        yield Change(Kind.MODIFIED, path)
    yield from inner


def _differs(
    new: str, now: os.stat_result, old: str, before: os.stat_result, mapping: UserMapping | None
) -> bool:
    if now.st_mode != before.st_mode or now.st_rdev != before.st_rdev:
        return True
    if owner(now, mapping) != owner(before, None):
        return True
    if not stat.S_ISDIR(now.st_mode) and (
        now.st_size != before.st_size or _time(now.st_mtime_ns, before.st_mtime_ns)
    ):
        return True
    return _capabilities(new, mapping) != _capabilities(old, None)


def _time(one: int, other: int) -> bool:
    """Whether two times differ; one without a fraction of a second may come from a tar, and stands for any."""
    second = 1_000_000_000
    return one // second != other // second or (one != other and one % second != 0 and other % second != 0)


def _capabilities(path: str, mapping: UserMapping | None) -> bytes:
    try:
        found = os.getxattr(path, CAPABILITIES, follow_symlinks=False)
    except OSError:
        return b""
    return capabilities_inside(found, mapping)


def written(upper: str) -> int:
    """Bytes of the files below; one with several names counts once, directories do not."""
    known: set[int] = set()
    return sum(_sizes(upper, known))


def _sizes(directory: str, known: set[int]) -> Iterator[int]:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(entry.path, known)
            continue
        status = entry.stat(follow_symlinks=False)
        if status.st_ino not in known:
            known.add(status.st_ino)
            yield status.st_size
