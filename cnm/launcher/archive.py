"""Files into and out of a container: what `docker cp` and `docker export` are made of.

`root` is where the container's files are: its mounted root file system, or /proc/PID/root for what a running one sees,
with its mounts. A path is the container's, symlinks in it too, however they change meanwhile. The rules are Docker's
(daemon/archive.go and container/archive.go of 20.10).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, NamedTuple

import msgspec

from cnm.errors import CnmError, Forbidden, InvalidParameter, NotFound
from cnm.kernel.openat2 import open_in_root
from cnm.launcher.modes import UserMapping
from cnm.launcher.packing import END, Packer
from cnm.launcher.unpacking import Rules, Unpacker

_AS_IT_SAYS = Rules()
_ABSENT = "Could not find the file {} in container {}"
_LINKS = 255
"""As many symlinks are followed, as Go's evaluation in Docker does."""

_GO_MODES = {
    modes.S_IFDIR: 1 << 31,
    modes.S_IFLNK: 1 << 27,
    modes.S_IFBLK: 1 << 26,
    modes.S_IFCHR: 1 << 26 | 1 << 21,
    modes.S_IFIFO: 1 << 25,
    modes.S_IFSOCK: 1 << 24,
}
_GO_BITS = {modes.S_ISUID: 1 << 23, modes.S_ISGID: 1 << 22, modes.S_ISVTX: 1 << 20}


class PathStat(msgspec.Struct, frozen=True, rename="camel"):
    """What the header X-Docker-Container-Path-Stat holds, as JSON in base64."""

    name: str
    size: int
    mode: int
    """The bits of Go's os.FileMode."""
    mtime: str
    """RFC 3339 with nanoseconds."""
    link_target: str = ""
    """Where a symlink leads inside the container, resolved."""


class Found(NamedTuple):
    """A path that was looked up."""

    directory: int
    """A descriptor of the directory that it is in."""
    name: str
    """There; "." for the directory itself."""
    path: str
    """Absolute and cleaned; with the slash or the dot that it ended in."""
    status: os.stat_result


def stat(root: str, path: str, *, container: str) -> PathStat:
    """What stands at `path`; a symlink itself, unless a slash follows it.

    `container` is how the client called it. Raises NotFound in Docker's words, CnmError for a path through something
    that is no directory, or through too many symlinks.
    """
    with _opened(root) as top, _found(top, path, container) as found:
        return _path_stat(top, found)


def read(
    root: str, path: str, *, container: str, mapping: UserMapping | None = None
) -> tuple[PathStat, Iterator[bytes]]:
    """What stands at `path`, and a tar of it, of everything in it, named after the last part of the path.

    `mapping`: of the container's user namespace; owners are told as they are inside. Raises as `stat` does; the
    tar is read while it is asked for.
    """
    stream = _read(root, path, container, mapping)
    return next(stream), stream  # type: ignore[return-value]


def write(
    root: str,
    path: str,
    stream: IO[bytes],
    *,
    container: str,
    rules: Rules = _AS_IT_SAYS,
    read_only: bool = False,
) -> None:
    """Unpacks a tar, compressed or not, into the directory `path`; a symlink to one is followed.

    `read_only`: the container's root file system is; what is mounted in it has a say of its own. Raises NotFound,
    InvalidParameter and Forbidden (the status that the API's description has for it; 20.10 answers 500) in Docker's
    words, CnmError where something cannot be made.
    """
    place = _cleaned(path)
    with _opened(root) as top:
        try:
            directory = open_in_root(top, place, os.O_PATH)
        except OSError as error:
            raise _explained(error, path, container) from None
        try:
            _refuse(top, directory, read_only)
        finally:
            os.close(directory)
        Unpacker(top, posixpath.normpath(place), rules).unpack(stream)


def export(root: str, mapping: UserMapping | None = None) -> Iterator[bytes]:
    """A tar of everything below `root`, read while it is asked for; owners as in the container's user namespace."""
    with _opened(root) as top, _reading(root):
        yield from Packer(top, mapping=mapping).tree(".", "")
        yield END


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """For errors that come when an answer has begun."""
    try:
        yield
    except OSError as error:
        raise CnmError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def _read(root: str, path: str, container: str, mapping: UserMapping | None) -> Iterator[PathStat | bytes]:
    with _opened(root) as top, _found(top, path, container) as found, _reading(path):
        yield _path_stat(top, found)
        packer = Packer(top, mapping=mapping)
        name = _last(found.path).removeprefix("/")
        yield from packer.entry(found.directory, found.name, name)
        if modes.S_ISDIR(found.status.st_mode):
            yield from packer.tree(found.path, f"{name}/" if name else "/")
        yield END


@contextmanager
def _opened(root: str) -> Iterator[int]:
    try:
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CnmError(f"cannot open the root file system {root}: {(error.strerror or '').lower()}") from None
    try:
        yield top
    finally:
        os.close(top)


@contextmanager
def _found(top: int, path: str, container: str) -> Iterator[Found]:
    absolute = _cleaned(path)
    above, _, name = absolute.rpartition("/")
    try:
        directory = open_in_root(top, above or "/", os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise _explained(error, path, container) from None
    try:
        status = os.stat(name or ".", dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        os.close(directory)
        raise _explained(error, path, container) from None
    try:
        yield Found(directory, name or ".", absolute, status)
    finally:
        os.close(directory)


def _cleaned(path: str) -> str:
    """Absolute, without "..", "." and double slashes inside, with the "/" or "/." at its end (Docker's rule)."""
    cleaned = posixpath.normpath(f"/{path}").replace("//", "/")
    if _last(path) == ".":
        return f"{cleaned.rstrip('/')}/."
    return cleaned if cleaned == "/" or not path.endswith("/") else f"{cleaned}/"


def _last(path: str) -> str:
    """The last part, as Go's filepath.Base has it."""
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def _refuse(top: int, directory: int, read_only: bool) -> None:
    status = os.fstat(directory)
    if not modes.S_ISDIR(status.st_mode):
        raise InvalidParameter("extraction point is not a directory")
    in_root = status.st_dev == os.fstat(top).st_dev
    if in_root and read_only:
        raise Forbidden("container rootfs is marked read-only")
    if not in_root and os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        raise Forbidden("mounted volume is marked read-only")


def _explained(error: OSError, path: str, container: str) -> CnmError:
    if isinstance(error, FileNotFoundError):
        return NotFound(_ABSENT.format(path, container))
    if error.errno == errno.ELOOP:
        return CnmError(f"evalSymlinksInScope: too many links in {path}")
    return CnmError(f"lstat {path}: {(error.strerror or '').lower()}")


def _path_stat(top: int, found: Found) -> PathStat:
    status = found.status
    is_link = modes.S_ISLNK(status.st_mode)
    return PathStat(
        name=_last(found.path),
        size=status.st_size,
        mode=_go_mode(status.st_mode),
        mtime=_rfc3339(status.st_mtime_ns),
        link_target=_resolved(top, found.path) if is_link else "",
    )


def _go_mode(mode: int) -> int:
    bits = sum(bit for own, bit in _GO_BITS.items() if mode & own)
    return mode & 0o777 | bits | _GO_MODES.get(modes.S_IFMT(mode), 0)


def _rfc3339(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    day = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{day}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def _resolved(top: int, path: str) -> str:
    """`path` without symlinks; what does not exist is taken as it is written."""
    done, left = "", path.split("/")[::-1]
    followed = 0
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = done.rpartition("/")[0]
            continue
        target = _link(top, done, name)
        if target is None:
            done = f"{done}/{name}"
            continue
        if (followed := followed + 1) > _LINKS:
            raise CnmError(f"evalSymlinksInScope: too many links in {path}")
        done = "" if target.startswith("/") else done
        left.extend(target.split("/")[::-1])
    return done or "/"


def _link(top: int, directory: str, name: str) -> str | None:
    """What a symlink says; None for anything else."""
    try:
        parent = open_in_root(top, directory or "/", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None
    finally:
        os.close(parent)
