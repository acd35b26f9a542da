"""Frames into a directory, which becomes the tree that they came from: nothing outside it is ever touched.

Each entry's directory is opened with the tree as "/" for symlinks, and the entry made there by its name.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable

from cnm.errors import InvalidParameter
from cnm.launcher.moving.deep_paths import open_below
from cnm.launcher.moving.frames import Content, End, Frame, Link, Node

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_tree(target: str, frames: Iterable[Frame]) -> None:
    """`target` is an empty directory. Raises OSError, InvalidParameter for frames that make no sense."""
    root = os.open(target, _DIRECTORY)
    writer = _Writer(root)
    try:
        for frame in frames:
            writer.take(frame)
        if not writer.is_whole:
            raise InvalidParameter("the stream was cut off")
    finally:
        writer.close()
        os.close(root)


class _Writer:
    def __init__(self, root: int) -> None:
        self._root = root
        self._directories: list[Node] = []
        """In their order: their times and attributes come last, from the innermost to the outermost."""
        self._file: tuple[Node, int] | None = None
        """The one whose content comes now."""
        self._parent: tuple[str, int] | None = None
        """The directory that was written to last, open."""
        self._names = 0
        self.is_whole = False

    def take(self, frame: Frame) -> None:
        if isinstance(frame, Content):
            self._write(frame)
            return
        self._finish_file()
        if isinstance(frame, Node):
            self._make(frame)
        elif isinstance(frame, Link):
            self._link(frame)
        else:
            self._end(frame)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file[1])
            self._file = None
        self._leave_parent()

    def _leave_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _in(self, path: bytes) -> tuple[int, str]:
        """(the open directory, the name in it). Raises InvalidParameter."""
        text = os.fsdecode(path)
        parent, name = posixpath.split(text)
        if not name or name in (".", "..") or "\0" in text:
            raise InvalidParameter(f"{text[:80]!r} is no path")
        if self._parent is None or self._parent[0] != parent:
            self._leave_parent()
            self._parent = parent, open_below(self._root, parent, _DIRECTORY)
        return self._parent[1], name

    def _make(self, node: Node) -> None:
        if stat.S_ISDIR(node.mode):
            self._directories.append(node)
            if node.path:
                directory, name = self._in(node.path)
                os.mkdir(name, 0o700, dir_fd=directory)
            return
        self._names += 1
        directory, name = self._in(node.path)
        if stat.S_ISREG(node.mode):
            file = os.open(name, _NEW, 0o600, dir_fd=directory)
            self._file = node, file
            os.ftruncate(file, node.size)
            return
        if stat.S_ISLNK(node.mode):
            os.symlink(node.target, os.fsencode(name), dir_fd=directory)
        else:
            os.mknod(name, stat.S_IFMT(node.mode) | 0o600, node.device, dir_fd=directory)
        _dress(node, directory, name)

    def _link(self, link: Link) -> None:
        self._names += 1
        first = open_below(self._root, posixpath.dirname(os.fsdecode(link.first)), _DIRECTORY)
        try:
            directory, name = self._in(link.path)
            before = posixpath.basename(os.fsdecode(link.first))
            os.link(before, name, src_dir_fd=first, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(first)

    def _write(self, content: Content) -> None:
        if self._file is None or content.offset + len(content.data) > self._file[0].size:
            raise InvalidParameter("content comes where no file is")
        data, offset = memoryview(content.data), content.offset
        while data:
            written = os.pwrite(self._file[1], data, offset)
            data, offset = data[written:], offset + written

    def _finish_file(self) -> None:
        if self._file is None:
            return
        node, file = self._file
        os.close(file)
        self._file = None
        _dress(node, *self._in(node.path))

    def _end(self, end: End) -> None:
        for node in reversed(self._directories):
            if node.path:
                _dress(node, *self._in(node.path))
            else:
                _dress(node, self._root, ".")
        inner = sum(1 for node in self._directories if node.path)
        if self._names + inner != end.names:
            raise InvalidParameter(f"{self._names + inner} names came, and {end.names} were sent")
        self.is_whole = True


def _dress(node: Node, directory: int, name: str) -> None:
    """Owner first, since it takes bits of the mode and capabilities away (chown(2)); times last."""
    os.chown(name, node.user, node.group, dir_fd=directory, follow_symlinks=False)
    place = f"/proc/self/fd/{directory}/{name}"
    if not stat.S_ISLNK(node.mode):
        os.chmod(place, stat.S_IMODE(node.mode))
    for attribute, value in node.attributes.items():
        os.setxattr(place, attribute, value, follow_symlinks=False)
    os.utime(name, ns=(node.accessed, node.modified), dir_fd=directory, follow_symlinks=False)
