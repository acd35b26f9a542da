"""What the kernel says is mounted where (proc(5), mountinfo)."""

from __future__ import annotations

import os
import re

from cnm.kernel import mounting

_ESCAPED = re.compile(r"\\([0-7]{3})")
_SLAVE = 0x84000
"""MS_SLAVE and MS_REC."""
_POINT = 4
"""The field of a line."""


def is_mounted(path: str) -> bool:
    """Also a bind of the same file system, which os.path.ismount does not see."""
    return os.path.realpath(path) in _points()


def mounts_below(path: str) -> list[str]:
    """Mounts in a directory, or on it."""
    place = os.path.realpath(path)
    return [point for point in _points() if point == place or point.startswith(f"{place}/")]


def detach(path: str) -> None:
    """Unmounts `path` with everything below; nothing there is fine. Raises OSError.

    What is mounted below a recursive bind is mounted at its source, too, and would go there with it, where mounts are
    shared: so it is made a slave before (mount_namespaces(7)).
    """
    while is_mounted(path):
        make_slave(path)
        mounting.unmount(path)


def make_slave(path: str) -> None:
    """A mount and those below follow their sources, and these do not follow them. Raises OSError."""
    mounting.mount("", path, "", "", _SLAVE)


def _points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_ESCAPED.sub(_unescaped, line.split(" ")[_POINT]) for line in file]


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))
