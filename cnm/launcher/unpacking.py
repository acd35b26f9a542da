"""A tar stream into a directory of a container, which may be running: nothing outside its root is ever touched.

Each entry's directory is opened with the container's root as "/" for symlinks, and the entry made there by its name.
The rules and texts are Docker's (its pkg/archive, Unpack of 20.10).
"""

from __future__ import annotations

import errno
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, NamedTuple

from cnm.errors import CnmError, InvalidParameter
from cnm.kernel.openat2 import open_in_root
from cnm.launcher.modes import UserMapping

_FAILED = "Error processing tar file"
_NO_HEADER = "archive/tar: invalid tar header"
_TEXTS = {"unexpected end of data": "unexpected EOF", "invalid header": _NO_HEADER}
"""Docker's words for tarfile's."""
_NO_ENTRIES = "empty file"
"""tarfile's word for no bytes at all, which Docker takes for an archive without entries."""
_ATTRIBUTE = "SCHILY.xattr."
_CHUNK = 1 << 18
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM)
"""Attributes that the file system lacks, as of another system: left out, as Docker does."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


class Rules(NamedTuple):
    """How entries become files."""

    no_overwrite_dir_non_dir: bool = False
    """A directory is not replaced by something else, nor the other way round."""
    owner: tuple[int, int] | None = None
    """User and group of everything; None: as the archive says. As the container sees them."""
    mapping: UserMapping | None = None
    """Of the container's user namespace."""


class Unpacker:
    """Unpacks one archive. `root` is a descriptor of the container's root, `place` an absolute path inside it."""

    def __init__(self, root: int, place: str, rules: Rules) -> None:
        self._root = root
        self._place = place
        self._rules = rules
        self._times: list[tuple[str, float]] = []

    def unpack(self, stream: IO[bytes]) -> None:
        """Raises InvalidParameter for what an archive may not hold or do, CnmError where it cannot be done."""
        try:
            self._unpack_all(stream)
        except (OverflowError, ValueError):  # what tarfile says of texts where numbers should be
            raise InvalidParameter(f"{_FAILED}: {_NO_HEADER}") from None
        except tarfile.ReadError as error:
            if str(error) != _NO_ENTRIES:
                raise InvalidParameter(f"{_FAILED}: {_TEXTS.get(str(error), str(error))}") from None
        except RecursionError:
            raise CnmError(f"{_FAILED}: directories are nested too deeply") from None
        except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
            raise InvalidParameter(f"{_FAILED}: {error}") from None

    def _unpack_all(self, stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="r|*", bufsize=_CHUNK) as archive:
            for entry in archive:
                self._unpack(archive, entry)
        for path, when in reversed(self._times):
            with _telling(path):
                self._in_parent(path, partial(_set_time, when=when))

    def _unpack(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        path = posixpath.normpath(posixpath.join(self._place, entry.name.lstrip("/")))
        if not _is_below(path, self._place):
            name = posixpath.relpath(path, self._place)
            raise InvalidParameter(f'{_FAILED}: "{name}" is outside of "{self._place}"')
        if path == self._place:
            if entry.isdir():
                return
            raise InvalidParameter(f'{_FAILED}: cannot overwrite directory "{path}" with non-directory')
        with _telling(path):
            self._make_directories(posixpath.dirname(path))
            self._in_parent(path, partial(self._make, archive, entry, path))

    def _in_parent(self, path: str, act: Callable[[int, str], None]) -> None:
        parent = open_in_root(self._root, posixpath.dirname(path), _DIRECTORY)
        try:
            act(parent, posixpath.basename(path))
        finally:
            os.close(parent)

    def _make_directories(self, path: str) -> None:
        """Those that the archive does not tell of, on the way to an entry."""
        try:
            os.close(open_in_root(self._root, path, _DIRECTORY | os.O_PATH))
        except FileNotFoundError:
            self._make_directories(posixpath.dirname(path))
            self._in_parent(path, self._make_parent)

    def _make_parent(self, parent: int, name: str) -> None:
        os.mkdir(name, 0o755, dir_fd=parent)
        if self._rules.mapping is not None:
            os.chown(name, *self._outside(0, 0), dir_fd=parent, follow_symlinks=False)

    def _outside(self, user: int, group: int) -> tuple[int, int]:
        """As the host numbers them. Raises InvalidParameter for one that is not mapped."""
        mapping = self._rules.mapping
        return (user, group) if mapping is None else (mapping.outside(user), mapping.outside(group))

    def _make(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, parent: int, name: str
    ) -> None:
        self._make_way(entry, path, parent, name)
        makers = {
            **dict.fromkeys((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE), self._make_file),
            tarfile.GNUTYPE_SPARSE: self._make_file,
            tarfile.DIRTYPE: self._make_directory,
            tarfile.SYMTYPE: self._make_symlink,
            tarfile.LNKTYPE: self._make_link,
            **dict.fromkeys((tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE), self._make_node),
        }
        if entry.type not in makers:
            raise InvalidParameter(f"{_FAILED}: unhandled tar header type {ord(entry.type)}")
        makers[entry.type](archive, entry, path, parent, name)
        self._finish(entry, path, parent, name)

    def _make_way(self, entry: tarfile.TarInfo, path: str, parent: int, name: str) -> None:
        """What stands there goes, unless both are directories."""
        try:
            is_directory = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        if self._rules.no_overwrite_dir_non_dir and is_directory != entry.isdir():
            kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise InvalidParameter(
                f'{_FAILED}: cannot overwrite {kinds[0]} "{path}" with {kinds[1]} "{self._place}"'
            )
        if is_directory and not entry.isdir():
            shutil.rmtree(name, dir_fd=parent)
        elif not is_directory:
            os.unlink(name, dir_fd=parent)

    def _make_file(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, parent: int, name: str
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        source = archive.extractfile(entry)
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            if source is not None:
                shutil.copyfileobj(source, file, _CHUNK)

    def _make_directory(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, parent: int, name: str
    ) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            return

    def _make_symlink(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, parent: int, name: str
    ) -> None:
        target = posixpath.normpath(f"{posixpath.dirname(path)}/{entry.linkname}")
        if not _is_below(target, self._place):
            raise InvalidParameter(f'{_FAILED}: invalid symlink "{path}" -> "{entry.linkname}"')
        os.symlink(entry.linkname, name, dir_fd=parent)

    def _make_link(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, parent: int, name: str
    ) -> None:
        target = posixpath.normpath(f"{self._place}/{entry.linkname.lstrip('/')}")
        if not _is_below(target, self._place):
            raise InvalidParameter(f'{_FAILED}: invalid hardlink "{target}" -> "{entry.linkname}"')
        self._in_parent(
            target,
            lambda there, first: os.link(
                first, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False
            ),
        )

    def _make_node(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, parent: int, name: str
    ) -> None:
        kinds = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
        device = 0 if entry.isfifo() else os.makedev(entry.devmajor, entry.devminor)
        os.mknod(name, kinds[entry.type] | 0o600, device, dir_fd=parent)

    def _finish(self, entry: tarfile.TarInfo, path: str, parent: int, name: str) -> None:
        """Owner first: changing it takes set-user-id bits and capabilities away."""
        if entry.islnk():
            return
        user, group = self._rules.owner or (entry.uid, entry.gid)
        os.chown(name, *self._outside(user, group), dir_fd=parent, follow_symlinks=False)
        _set_attributes(entry, f"/proc/self/fd/{parent}/{name}")
        if not entry.issym():
            _set_mode(parent, name, entry.mode & 0o7777)
        if entry.isdir():
            self._times.append((path, entry.mtime))
        else:
            _set_time(parent, name, entry.mtime)


@contextmanager
def _telling(path: str) -> Iterator[None]:
    """Headers may hold any number, also what is no time, user or device; and names with a NUL."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CnmError(f"{_FAILED}: {path}: {why}") from None
    except (OverflowError, ValueError):
        raise InvalidParameter(f"{_FAILED}: {_NO_HEADER}: {path!r}") from None


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _set_mode(parent: int, name: str, mode: int) -> None:
    """By a descriptor that is no symlink's: chmod follows them."""
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            os.chmod(f"/proc/self/fd/{found}", mode)
    finally:
        os.close(found)


def _set_time(parent: int, name: str, when: float) -> None:
    os.utime(name, (when, when), dir_fd=parent, follow_symlinks=False)


def _set_attributes(entry: tarfile.TarInfo, place: str) -> None:
    for key, value in entry.pax_headers.items():
        if not key.startswith(_ATTRIBUTE):
            continue
        try:
            os.setxattr(
                place,
                key.removeprefix(_ATTRIBUTE),
                value.encode("utf-8", "surrogateescape"),
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
