"""Paths as a container sees them, followed on the host without leaving its root."""

from __future__ import annotations

import os

_MOST_LINKS = 255


def in_scope(root: str, path: str) -> str:
    """Where `path` of the container is on the host; its last parts need not exist.

    Symbolic links are followed as chroot(2) would. Safe only while no process of the container can change them.
    Raises OSError (ELOOP) for links without end.
    """
    found: list[str] = []
    waiting = _parts(path)
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del found[-1:]
            continue
        here = os.path.join(root, *found, part)
        if not os.path.islink(here):
            found.append(part)
            continue
        if (links := links + 1) > _MOST_LINKS:
            raise OSError(40, "too many levels of symbolic links", path)
        target = os.readlink(here)
        if target.startswith("/"):
            found = []
        waiting += _parts(target)
    return os.path.join(root, *found)


def _parts(path: str) -> list[str]:
    """The last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
