"""What the kernel says is mounted where (proc(5), mountinfo)."""

from __future__ import annotations

import os
import re

_ESCAPED = re.compile(r"\\([0-7]{3})")
_POINT = 4
"""The field of a line."""


def is_mounted(path: str) -> bool:
    """Also a bind of the same file system, which os.path.ismount does not see."""
    return os.path.realpath(path) in _points()


def mounts_below(path: str) -> list[str]:
    """Mounts in a directory, or on it."""
    place = os.path.realpath(path)
    return [point for point in _points() if point == place or point.startswith(f"{place}/")]


def _points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_ESCAPED.sub(_unescaped, line.split(" ")[_POINT]) for line in file]


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))
