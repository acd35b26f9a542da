"""A directory tree as frames: owners, modes, times, attributes, links, holes, and what is no file nor directory.

Directories are opened with the tree as "/" for symlinks, so that nothing outside is ever read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from cnm.errors import CnmError
from cnm.launcher.moving.deep_paths import open_below
from cnm.launcher.moving.frames import LONGEST_CONTENT, Content, End, Frame, Link, Node

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = 512
"""Bytes, the unit of st_blocks whatever the file system's is (stat(2))."""
_SHOWN = 200
"""Characters of a path in an error."""
_LABEL = "security.selinux"
"""Of the host's own policy."""


def space(path: str) -> int:
    """Bytes that the tree takes of the disk. Raises CnmError."""
    try:
        return _space(path)
    except OSError as error:
        raise _unreadable(error, path) from None


def _space(path: str) -> int:
    root = os.open(path, _DIRECTORY)
    try:
        seen = {_key(status): status.st_blocks * _BLOCK for status in _statuses(root)}
    finally:
        os.close(root)
    return sum(seen.values())


def _statuses(root: int) -> Iterator[os.stat_result]:
    yield os.fstat(root)
    waiting = [""]
    while waiting:
        path = waiting.pop()
        directory = open_below(root, path, _DIRECTORY)
        try:
            for name in os.listdir(directory):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                yield status
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(f"{path}/{name}" if path else name)
        finally:
            os.close(directory)


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class TreeReader:
    """Of one tree, which nobody changes meanwhile. `read` is told how many bytes of files were read."""

    def __init__(self, path: str, read: Callable[[int], object] = lambda count: None) -> None:
        self._path = path
        self._read = read
        self._first: dict[tuple[int, int], bytes] = {}
        """The first name of a file that has several."""
        self._names = 0

    def frames(self) -> Iterator[Frame]:
        """Raises CnmError naming what cannot be read."""
        try:
            yield from self._tree()
        except OSError as error:
            raise _unreadable(error, self._path) from None

    def _tree(self) -> Iterator[Frame]:
        root = os.open(self._path, _DIRECTORY)
        try:
            yield _node(b"", os.fstat(root), f"/proc/self/fd/{root}/.", ".", root)
            yield from self._below(root)
        finally:
            os.close(root)
        yield End(names=self._names)

    def _below(self, root: int) -> Iterator[Frame]:
        waiting = [""]
        while waiting:
            path = waiting.pop()
            directory = open_below(root, path, _DIRECTORY)
            try:
                for name in sorted(os.listdir(directory)):
                    inner = f"{path}/{name}" if path else name
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    self._names += 1
                    yield from self._entry(directory, name, os.fsencode(inner), status)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(inner)
            finally:
                os.close(directory)

    def _entry(self, directory: int, name: str, path: bytes, status: os.stat_result) -> Iterator[Frame]:
        key = _key(status)
        if key in self._first:
            yield Link(path=path, first=self._first[key])
            return
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            self._first[key] = path
        yield _node(path, status, f"/proc/self/fd/{directory}/{name}", name, directory)
        if stat.S_ISREG(status.st_mode):
            yield from self._content(directory, name, status.st_size)

    def _content(self, directory: int, name: str, size: int) -> Iterator[Content]:
        file = os.open(name, _FILE, dir_fd=directory)
        try:
            for begin, end in _extents(file, size):
                for offset in range(begin, end, LONGEST_CONTENT):
                    data = os.pread(file, min(LONGEST_CONTENT, end - offset), offset)
                    yield Content(offset=offset, data=data)
                    self._read(len(data))
        finally:
            os.close(file)


def _unreadable(error: OSError, path: str) -> CnmError:
    where = str(error.filename or path)
    if len(where) > _SHOWN:
        where = f"{where[: _SHOWN // 2]}…{where[-_SHOWN // 2 :]}"
    return CnmError(f"cannot read {where}: {(error.strerror or str(error)).lower()}")


def _node(path: bytes, status: os.stat_result, place: str, name: str, directory: int) -> Node:
    is_link = stat.S_ISLNK(status.st_mode)
    return Node(
        path=path,
        mode=status.st_mode,
        user=status.st_uid,
        group=status.st_gid,
        accessed=status.st_atime_ns,
        modified=status.st_mtime_ns,
        size=status.st_size if stat.S_ISREG(status.st_mode) else 0,
        device=status.st_rdev,
        target=os.fsencode(os.readlink(name, dir_fd=directory)) if is_link else b"",
        attributes=_attributes(place),
    )


def _attributes(place: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(place, name, follow_symlinks=False) for name in names if name != _LABEL}


def _extents(file: int, size: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of what is no hole (lseek(2))."""
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(file, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to the end
            raise
        offset = min(os.lseek(file, begin, os.SEEK_HOLE), size)
        yield begin, offset
