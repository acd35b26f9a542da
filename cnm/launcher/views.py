"""The files of a container that does not run, with its volumes and binds in it, for who copies into it or out of it.

They are mounted over a second mount of its root file system, so that who wants its own files alone sees them alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cnm.errors import CnmError
from cnm.kernel import mounting
from cnm.kernel.openat2 import open_in_root
from cnm.launcher.volumes.mounted import detach, make_slave

_PATH = os.O_PATH | os.O_CLOEXEC
_RECURSIVE_BIND = 0x5000
_READ_ONLY = 0x1021
"""MS_REMOUNT, MS_BIND and MS_RDONLY: of a bind that is there."""


class Inner(NamedTuple):
    """What is mounted in a view; `source` is a path on the host, `target` one of the container."""

    source: str
    target: str
    writable: bool


@contextmanager
def view(folder: str, root: str, inner: Iterable[Inner]) -> Iterator[str]:
    """A path in `folder` with the files of `root` and what is mounted in them; there in the block. Raises CnmError."""
    place = os.path.join(folder, secrets.token_hex(8))
    try:
        _set_up(place, root, inner)
        yield place
    finally:
        _take_away(place)


def _set_up(place: str, root: str, inner: Iterable[Inner]) -> None:
    try:
        os.mkdir(place, 0o700)
        mounting.mount(root, place, "", "", _RECURSIVE_BIND)
        make_slave(place)  # else what follows is mounted in `root`, too
        for each in sorted(inner, key=lambda each: each.target.count("/")):
            _mount(place, each)
    except OSError as error:
        why = f"{error.filename or place}: {(error.strerror or '').lower()}"
        raise CnmError(f"cannot look into {root}: {why}") from None


def sweep(folder: str) -> None:
    """What a kill left. Nothing that is mounted is ever deleted."""
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            _take_away(os.path.join(folder, name))


def _take_away(place: str) -> None:
    detach(place)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(place)


def _mount(place: str, inner: Inner) -> None:
    top = os.open(place, _PATH | os.O_DIRECTORY)
    try:
        with _named(_made(top, inner.target, os.path.isdir(inner.source))) as target:
            mounting.mount(inner.source, target, "", "", _RECURSIVE_BIND)
        with _named(open_in_root(top, inner.target, os.O_PATH)) as mounted:
            make_slave(mounted)
            if not inner.writable:
                mounting.mount("", mounted, "", "", _READ_ONLY)
    finally:
        os.close(top)


@contextmanager
def _named(descriptor: int) -> Iterator[str]:
    """A path of what a descriptor stands for, which is closed after the block."""
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _made(top: int, path: str, is_directory: bool) -> int:
    """A descriptor of where something is to be mounted; made where it is not there, as the runtime does."""
    with contextlib.suppress(FileNotFoundError):
        return open_in_root(top, path, os.O_PATH)
    above, _, name = path.rpartition("/")
    parent = _made(top, above or "/", True)
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.mknod(name, stat.S_IFREG | 0o644, dir_fd=parent)
    finally:
        os.close(parent)
    return open_in_root(top, path, os.O_PATH)
