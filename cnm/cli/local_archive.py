"""Files of this host as a tar archive, and a tar archive as files of this host."""

from __future__ import annotations

import io
import os
import stat
import tarfile

from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

BLOCK = 512
PIECE = 65536


def packed(path: str, name: str) -> Iterator[bytes]:
    """The archive of the file or directory at `path`, in which it is called `name`, in pieces.

    Raises CnmError for what cannot be read. Sockets are left out, as Docker does.
    """
    # It knows hard links again; nothing is written to it.
    archive = tarfile.TarFile(mode="w", fileobj=io.BytesIO())
    try:
        for place, inner in _tree(path, name):
            info = archive.gettarinfo(place, inner)
            if info is None:
                continue
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if info.isreg():
                yield from _content(place, info.size)
    except OSError as error:
        raise CnmError(
            f"cannot read {error.filename or path}: {(error.strerror or str(error)).lower()}"
        ) from None
    yield bytes(2 * BLOCK)


def packed_tree(
    folder: str, is_left_out: Callable[[str], bool], is_pruned: Callable[[str], bool]
) -> Iterator[bytes]:
    """The entries of what is in a folder, without the archive's end; everything belongs to root.

    Both callables are asked for paths relative to it: what to leave out, and which directories not to look into.
    Raises CnmError for what cannot be read.
    """
    archive = tarfile.TarFile(mode="w", fileobj=io.BytesIO())
    try:
        for name in _below(folder, "", is_pruned):
            if is_left_out(name):
                continue
            place = os.path.join(folder, name)
            if (info := archive.gettarinfo(place, name)) is None:
                continue
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if info.isreg():
                yield from _content(place, info.size)
    except OSError as error:
        raise CnmError(
            f"cannot read {error.filename or folder}: {(error.strerror or str(error)).lower()}"
        ) from None


def _below(folder: str, name: str, is_pruned: Callable[[str], bool]) -> Iterator[str]:
    for entry in sorted(os.listdir(os.path.join(folder, name))):
        path = f"{name}/{entry}" if name else entry
        yield path
        if stat.S_ISDIR(os.lstat(os.path.join(folder, path)).st_mode) and not is_pruned(path):
            yield from _below(folder, path, is_pruned)


def _tree(path: str, name: str) -> Iterator[tuple[str, str]]:
    """(path, name in the archive) of everything from `path` on, directories before what is in them."""
    yield path, name
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for entry in sorted(os.listdir(path)):
            yield from _tree(os.path.join(path, entry), f"{name}/{entry}")


def _content(path: str, size: int) -> Iterator[bytes]:
    """As many bytes as its header promises, then what fills the last block."""
    missing = size
    with open(path, "rb") as file:
        while missing:
            piece = file.read(min(missing, PIECE))
            if not piece:
                raise CnmError(f"cannot read {path}: it became shorter while it was copied")
            missing -= len(piece)
            yield piece
    yield bytes(-size % BLOCK)


def unpack(pieces: Iterable[bytes], folder: str, renamed: Callable[[str], str]) -> None:
    """Make the files of an archive in `folder`; `renamed` gives an entry's name there for that in the archive.

    They belong to the caller and keep modes and times. An entry replaces what has its name, except a directory by
    something else or the other way round. Raises CnmError for this, for an entry that would lie outside of `folder`
    (the archive comes from a container, which nobody need trust) and for what cannot be written.
    """
    root = os.path.realpath(folder)
    times: list[tuple[str, float]] = []
    try:
        with tarfile.open(fileobj=_Reader(pieces), mode="r|", errorlevel=2) as archive:
            for entry in archive:
                place = _place(root, renamed(entry.name))
                if place == root:
                    continue
                _make_way(place, entry)
                if entry.islnk():
                    os.link(_place(root, renamed(entry.linkname)), place, follow_symlinks=False)
                    continue
                _make(archive, entry, place)
                if entry.isdir():
                    times.append((place, entry.mtime))
        for place, moment in reversed(times):
            os.utime(place, (moment, moment))
    except tarfile.TarError as error:
        raise CnmError(f"cannot unpack the archive: {error}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CnmError(f"cannot write {error.filename or folder}: {reason}") from None


def _place(root: str, name: str) -> str:
    """The path of an entry: symbolic links before its last part must not lead out of `root`."""
    path = os.path.normpath(f"{root}/{name}")
    parent = os.path.realpath(os.path.dirname(path))
    if path != root and os.path.commonpath((root, parent)) != root:
        raise CnmError(f'invalid archive: the entry "{name}" leads out of {root}')
    return path if path == root else os.path.join(parent, os.path.basename(path))


def _make_way(place: str, entry: tarfile.TarInfo) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if not os.path.lexists(place):
        return
    is_directory = os.path.isdir(place) and not os.path.islink(place)
    if is_directory and not entry.isdir():
        raise CnmError(f'cannot overwrite directory "{place}" with non-directory "{os.path.dirname(place)}"')
    if entry.isdir() and not is_directory:
        raise CnmError(f'cannot overwrite non-directory "{place}" with directory "{os.path.dirname(place)}"')
    if not is_directory:
        os.unlink(place)


def _make(archive: tarfile.TarFile, entry: tarfile.TarInfo, place: str) -> None:
    if entry.isdir():
        os.makedirs(place, exist_ok=True)
    elif entry.issym():
        os.symlink(entry.linkname, place)
        os.utime(place, (entry.mtime, entry.mtime), follow_symlinks=False)
        return
    elif entry.isreg():
        _write(archive, entry, place)
    elif entry.isfifo():
        os.mkfifo(place)
    else:
        kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
        os.mknod(place, kind | 0o600, os.makedev(entry.devmajor, entry.devminor))
    os.chmod(place, stat.S_IMODE(entry.mode))
    os.utime(place, (entry.mtime, entry.mtime))


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, place: str) -> None:
    source = archive.extractfile(entry)
    assert source is not None, "a regular file has a content"
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        while piece := source.read(PIECE):
            file.write(piece)


class _Reader(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = filter(None, pieces)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._held or next(self._pieces, b"")
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        self._held = piece[size:]
        return size
