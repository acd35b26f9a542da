"""What an image has at a volume's place goes into the volume when that is new: Docker's copy-up.

Others may have the volume mounted meanwhile, and a kill may come at any time. So the copy is made beside, in a folder
of the volume, and moved to its place when it is whole; whoever looks next finishes that, or begins anew.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing, suppress
from typing import NamedTuple

from cnm.errors import CnmError
from cnm.kernel import mounting
from cnm.launcher.deleting import delete
from cnm.launcher.overlays import OVERLAY_ATTRIBUTES

STAGING = ".cnm-copy-up"
_TREE, _WHOLE = "tree", "whole"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM)


def copy_up(source: int, target: str) -> bool:
    """Fills the directory `target`, if it is empty, with what is in the directory of the descriptor `source`.

    Its owner, mode, times and attributes become those of the source too. False where it was not empty. Raises CnmError;
    nothing is left then.
    """
    try:
        with _opened(target, None) as top:
            _settle(top.number)
            if os.listdir(top.number):
                return False
            _copy(source, top.number)
            return True
    except (OSError, RecursionError) as error:
        with suppress(OSError):
            delete(os.path.join(target, STAGING))
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "directories are too deep"
        raise CnmError(f"cannot copy the image's files into {target}: {why}") from None


def _settle(top: int) -> None:
    """Of a volume's directory."""
    try:
        staging = _Descriptor(os.open(STAGING, _DIRECTORY, dir_fd=top))
    except FileNotFoundError:
        return
    with closing(staging):
        if _WHOLE in os.listdir(staging.number):
            _move(staging.number, top)
            return
    delete(f"/proc/self/fd/{top}/{STAGING}")


def is_interrupted(target: str) -> bool:
    """Whether a kill left something for `finish`."""
    return os.path.isdir(os.path.join(target, STAGING))


def finish(target: str) -> None:
    """What a kill left in a volume is finished, or goes. Raises CnmError."""
    try:
        with _opened(target, None) as top:
            _settle(top.number)
    except OSError as error:
        raise CnmError(f"cannot copy files into {target}: {(error.strerror or '').lower()}") from None


def _copy(source: int, top: int) -> None:
    os.mkdir(STAGING, 0o700, dir_fd=top)
    with _opened(STAGING, top) as staging:
        os.mkdir(_TREE, 0o700, dir_fd=staging.number)
        with _opened(_TREE, staging.number) as tree:
            _Copier(tree.number).fill(source, tree.number)
        mounting.sync(staging.number)  # what is whole is so after a power cut, too
        os.rename(_TREE, _WHOLE, src_dir_fd=staging.number, dst_dir_fd=staging.number)
    _settle(top)


def _move(staging: int, top: int) -> None:
    """What somebody else has made meanwhile stays as it is."""
    with _opened(_WHOLE, staging) as whole:
        times = _times(os.fstat(whole.number))
        there = set(os.listdir(top))
        for name in os.listdir(whole.number):
            if name not in there:
                os.rename(name, name, src_dir_fd=whole.number, dst_dir_fd=top)
        _copy_status(whole.number, top)
        delete(f"/proc/self/fd/{top}/{STAGING}")
        os.utime(top, ns=times)


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
