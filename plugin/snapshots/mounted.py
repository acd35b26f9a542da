"""What the kernel shows of mounts, in the namespaces of all processes: a user of a volume may be long gone."""

from __future__ import annotations

import os
from collections.abc import Iterator

_ROOT = 3
"""The field with what is mounted, a path within its own file system (proc(5), mountinfo)."""


def is_mounted(end: str) -> bool:
    """Whether somebody has mounted a folder whose path ends so, or something in it."""
    seen: set[str] = set()
    return any(f"{end}/" in f"{path}/" for pid in _processes() for path in _paths(pid, seen))


def _processes() -> Iterator[str]:
    return (name for name in os.listdir("/proc") if name.isdigit())


def _paths(pid: str, seen: set[str]) -> list[str]:
    """Of a mount namespace that was not seen yet; a process that has ended has none."""
    try:
        namespace = os.readlink(f"/proc/{pid}/ns/mnt")
        if namespace in seen:
            return []
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            found = [line.split(" ", _ROOT + 1)[_ROOT] for line in file]
    except OSError:
        return []
    seen.add(namespace)
    return found
