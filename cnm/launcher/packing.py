"""Directory trees as streams of tar (pax), while somebody may change them: nothing outside the root is ever opened.

Every directory is opened by its path below the root's descriptor, with that as "/" for symlinks, and what is in it by
its name there. What vanishes meanwhile is left out; a file that becomes shorter is filled up with zeros.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from cnm.kernel.openat2 import open_in_root
from cnm.launcher.modes import UserMapping
from cnm.launcher.overlays import OVERLAY_ATTRIBUTES, is_opaque, is_whiteout
from cnm.launcher.ownership import CAPABILITIES, capabilities_inside, owner

END = bytes(2 * tarfile.BLOCKSIZE)
"""What a tar ends with."""
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_CHUNK = 1 << 18
_GONE = (FileNotFoundError, NotADirectoryError)
_OF_THE_HOST = (*OVERLAY_ATTRIBUTES, "security.selinux", "system.")
_KINDS = {
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFREG: tarfile.REGTYPE,
}
"""What a tar can hold; sockets are left out, as Docker does."""


class Packer:
    """One archive of one tree.

    As a layer (`layer`) an overlay's upper directory has whiteouts in the form of image layers (.wh.NAME, .wh..wh..opq)
    and all attributes; otherwise of the attributes only capabilities are taken, as Docker does.
    """

    def __init__(self, root: int, *, layer: bool = False, mapping: UserMapping | None = None) -> None:
        """`root` is a descriptor of a directory, the caller's; owners are told as the container sees them."""
        self._mapping = mapping
        self._root = root
        self._layer = layer
        self._first_names: dict[tuple[int, int], str] = {}

    def tree(self, path: str, stored: str) -> Iterator[bytes]:
        """What is in the directory `path`, named below `stored`, which is "" or ends in a slash."""
        waiting = [(path, stored)]
        while waiting:
            path, stored = waiting.pop()
            try:
                directory = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except _GONE:
                continue
            try:
                inner = []
                for name in sorted(os.listdir(directory)):
                    yield from self.entry(directory, name, stored + name)
                    if _is_directory(directory, name):
                        inner.append((f"{path}/{name}", f"{stored}{name}/"))
                waiting.extend(reversed(inner))
            finally:
                os.close(directory)

    def entry(self, directory: int, name: str, stored: str) -> Iterator[bytes]:
        """What stands at `name` in an open directory, without what is in it."""
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if self._layer and is_whiteout(status):
                yield _empty_file(f"{stored.removesuffix(name)}{WHITEOUT}{name}")
            elif stat.S_ISREG(status.st_mode):
                yield from self._file(directory, name, stored)
            elif stat.S_IFMT(status.st_mode) in _KINDS:
                yield self._header(directory, name, stored, status)
                if self._layer and stat.S_ISDIR(status.st_mode) and is_opaque(_place(directory, name)):
                    yield _empty_file(f"{stored}/{OPAQUE}")
        except _GONE:
            return

    def _file(self, directory: int, name: str, stored: str) -> Iterator[bytes]:
        """Opened first: what is told of it and what it holds are the same file's."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=directory)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return
            key = status.st_dev, status.st_ino
            if status.st_nlink > 1 and key in self._first_names:
                yield self._header(directory, name, stored, status, link=self._first_names[key])
                return
            self._first_names[key] = stored
            yield self._header(directory, name, stored, status)
            yield from _content(file, status.st_size)
        finally:
            os.close(file)

    def _header(
        self, directory: int, name: str, stored: str, status: os.stat_result, link: str = ""
    ) -> bytes:
        entry = tarfile.TarInfo(stored)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.uid, entry.gid = owner(status, self._mapping)
        entry.mtime = int(status.st_mtime)
        entry.type = tarfile.LNKTYPE if link else _KINDS[stat.S_IFMT(status.st_mode)]
        entry.linkname = link
        if entry.issym():
            entry.linkname = os.readlink(name, dir_fd=directory)
        if entry.isdev():
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if entry.type == tarfile.REGTYPE:
            entry.size = status.st_size
        entry.pax_headers = self._attributes(_place(directory, name))
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def _attributes(self, place: str) -> dict[str, str]:
        try:
            names = os.listxattr(place, follow_symlinks=False)
        except OSError:
            return {}  # a file system without attributes, or nothing there any more
        found = {}
        for name in names:
            wanted = not name.startswith(_OF_THE_HOST) if self._layer else name == CAPABILITIES
            if wanted:
                value = os.getxattr(place, name, follow_symlinks=False)
                if name == CAPABILITIES:
                    value = capabilities_inside(value, self._mapping)
                found[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        return found


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except _GONE:
        return False


def _place(directory: int, name: str) -> str:
    """A path for calls that take no directory's descriptor."""
    return f"/proc/self/fd/{directory}/{name}"


def _empty_file(stored: str) -> bytes:
    return tarfile.TarInfo(stored).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(file: int, size: int) -> Iterator[bytes]:
    """As many bytes as the header said, and what fills the last block."""
    left = size
    while left and (data := os.read(file, min(left, _CHUNK))):
        left -= len(data)
        yield data
    while left:
        yield bytes(min(left, _CHUNK))
        left -= min(left, _CHUNK)
    if rest := size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)
