"""What an image has at a volume's place goes into the volume when that is new: Docker's copy-up.

Others may have the volume mounted meanwhile, and a kill may come at any time. So the copy is made in a folder of the
volume, and what is in it moved to its place when it is whole; whoever looks next finishes that, or begins anew. How
that folder is called is noted down before, outside of the volume: what somebody else has made is never taken for it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import closing, suppress
from typing import NamedTuple

from cnm.errors import CnmError
from cnm.kernel import mounting
from cnm.launcher.deleting import delete
from cnm.launcher.overlays import OVERLAY_ATTRIBUTES
from cnm.launcher.volumes.records import flush

_STAGING = re.compile(r"\.cnm-copy-up-[0-9a-f]{16}")
_TREE, _WHOLE = "tree", "whole"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM)


def copy_up(source: int, target: str, note: str) -> bool:
    """Fills the directory `target`, if it is empty, with what is in the directory of the descriptor `source`.

    Its owner, mode, times and attributes become those of the source too. False where it was not empty. `note` is the
    path of a file that is there while it is being filled. One at a time for one target. Raises CnmError: nothing is
    there then, or everything at the next time.
    """
    try:
        with _opened(target, None) as top:
            _settle(top.number, note)
            if os.listdir(top.number):
                return False
            _copy(source, top.number, note)
            _settle(top.number, note)
            return True
    except (OSError, RecursionError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "directories are too deep"
        raise CnmError(f"cannot copy the image's files into {target}: {why}") from None


def is_interrupted(note: str) -> bool:
    """Whether a kill left something for `finish`."""
    return os.path.exists(note)


def finish(target: str, note: str) -> None:
    """What a kill left in a volume is finished, or goes. Raises CnmError."""
    try:
        with _opened(target, None) as top:
            _settle(top.number, note)
    except OSError as error:
        raise CnmError(
            f"cannot finish the copy of the image's files into {target}: {(error.strerror or '').lower()}"
        ) from None


def _settle(top: int, note: str) -> None:
    """Of a volume's directory."""
    name = _noted(note)
    if name and _is_directory(name, top):
        with _opened(name, top) as staging:
            times = _move(staging.number, top) if _WHOLE in os.listdir(staging.number) else None
        delete(f"/proc/self/fd/{top}/{name}")
        if times:
            os.utime(top, ns=times)
    _forget(note)


def _noted(note: str) -> str:
    """The name of the folder; "" where the kill came before it."""
    try:
        with open(note, encoding="ascii", errors="replace") as file:
            name = file.read()
    except FileNotFoundError:
        return ""
    return name if _STAGING.fullmatch(name) else ""


def _is_directory(name: str, directory: int) -> bool:
    """Whether it is there, as it was made."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _forget(note: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(note)


def _clear(top: int, note: str) -> None:
    """What was made goes; what cannot be deleted is tried again when somebody looks next."""
    with suppress(OSError):
        if name := _noted(note):
            delete(f"/proc/self/fd/{top}/{name}")
        _forget(note)


def _copy(source: int, top: int, note: str) -> None:
    """Beside what is in the volume."""
    name = f".cnm-copy-up-{secrets.token_hex(8)}"
    try:
        _note_down(note, name)
        os.mkdir(name, 0o700, dir_fd=top)
        with _opened(name, top) as staging:
            os.mkdir(_TREE, 0o700, dir_fd=staging.number)
            with _opened(_TREE, staging.number) as tree:
                _Copier(tree.number).fill(source, tree.number)
            mounting.sync(staging.number)  # what is whole is so after a power cut, too
            os.rename(_TREE, _WHOLE, src_dir_fd=staging.number, dst_dir_fd=staging.number)
    except BaseException:
        _clear(top, note)
        raise


def _note_down(note: str, name: str) -> None:
    """It is on the disk when this returns."""
    with open(note, "w", encoding="ascii") as file:
        file.write(name)
        file.flush()
        os.fsync(file.fileno())
    flush(os.path.dirname(note))


def _move(staging: int, top: int) -> tuple[int, int]:
    """What somebody else has made meanwhile stays as it is. The times that the volume is to have."""
    with _opened(_WHOLE, staging) as whole:
        times = _times(os.fstat(whole.number))
        there = set(os.listdir(top))
        for name in os.listdir(whole.number):
            if name not in there:
                os.rename(name, name, src_dir_fd=whole.number, dst_dir_fd=top)
        _copy_status(whole.number, top)
        return times


class _Descriptor(NamedTuple):
    number: int

    def close(self) -> None:
        os.close(self.number)


def _opened(path: str, directory: int | None) -> closing[_Descriptor]:
    return closing(_Descriptor(os.open(path, _DIRECTORY, dir_fd=directory)))


class _Copier:
    """Of one tree, by descriptors: no symlink leads out of either side."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._first: dict[int, str] = {}
        """Where a file with several names was copied to, by its inode."""

    def fill(self, source: int, target: int, path: str = "") -> None:
        """`path` of `target` below the top: "" or with a slash behind."""
        for name in sorted(os.listdir(source)):
            self._entry(name, source, target, path + name)
        _copy_status(source, target)

    def _entry(self, name: str, source: int, target: int, path: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            with _opened(name, source) as inner, _opened(name, target) as made:
                self.fill(inner.number, made.number, f"{path}/")
        elif first := self._first.get(status.st_ino):
            os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
        else:
            _make(name, source, target, status)
            if status.st_nlink > 1:
                self._first[status.st_ino] = path


def _make(name: str, source: int, target: int, status: os.stat_result) -> None:
    """Anything but a directory."""
    if stat.S_ISREG(status.st_mode):
        _copy_content(name, source, target)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    place = f"/proc/self/fd/{target}/{name}"
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(place, stat.S_IMODE(status.st_mode))
    _copy_attributes(f"/proc/self/fd/{source}/{name}", place, follow=False)
    os.utime(name, ns=_times(status), dir_fd=target, follow_symlinks=False)


def _copy_content(name: str, source: int, target: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source), "rb", 0) as before,
        open(os.open(name, flags, 0o600, dir_fd=target), "wb", 0) as after,
    ):
        while os.sendfile(after.fileno(), before.fileno(), None, _CHUNK):
            continue


def _copy_status(source: int, target: int) -> None:
    """Of a directory. Owner first: changing it takes bits of the mode away."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    _copy_attributes(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", follow=True)
    os.utime(target, ns=_times(status))


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns


def _copy_attributes(source: str, target: str, *, follow: bool) -> None:
    """Those that the file system lacks are left out, as Docker does."""
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError:
        return
    for name in names:
        if not name.startswith((*OVERLAY_ATTRIBUTES, "security.selinux", "system.")):
            try:
                os.setxattr(
                    target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=follow
                )
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
