"""How overlayfs writes down what is gone, and what a pile of its layers shows at a name, without mounting it.

Source: Documentation/filesystems/overlayfs.rst. A whiteout is a character device 0:0; an opaque directory
hides the ones below it.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
OVERLAY_ATTRIBUTES = ("trusted.overlay.", "user.overlay.")


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(directory, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


class Seen(NamedTuple):
    """What stands at a name."""

    path: str
    """Of the topmost layer that has it."""
    status: os.stat_result
    directories: tuple[str, ...]
    """Where it is a directory: those that it is merged from, the topmost first."""


def look_up(directories: tuple[str, ...], name: str) -> Seen | None:
    """What a merged directory shows at `name`; None for nothing. `directories`: the topmost first."""
    merged: list[str] = []
    top: os.stat_result | None = None
    for directory in directories:
        path = os.path.join(directory, name)
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if is_whiteout(status) or (merged and not stat.S_ISDIR(status.st_mode)):
            break
        top = top or status
        merged.append(path)
        if not stat.S_ISDIR(status.st_mode) or is_opaque(path):
            break
    if top is None:
        return None
    return Seen(merged[0], top, tuple(merged) if stat.S_ISDIR(top.st_mode) else ())


def names(directories: tuple[str, ...]) -> set[str]:
    """What a merged directory holds."""
    candidates = {name for directory in directories for name in os.listdir(directory)}
    return {name for name in candidates if look_up(directories, name) is not None}
