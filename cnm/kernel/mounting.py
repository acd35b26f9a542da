"""Mounts, in the caller's mount namespace: mount(2), umount2(2), mount_setattr(2) and syncfs(2), which Python lacks.

They release the GIL. Errors are OSErrors that name the path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable

NOSUID, NODEV, NOEXEC = 0x2, 0x4, 0x8
_MS_BIND = 0x1000
_MNT_DETACH = 2
_CLONE_FS = 0x200
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
"""The same numbers on every architecture (asm-generic/unistd.h)."""
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH, _MOVE_MOUNT_F_EMPTY_PATH = 0x1000, 0x4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_IDMAP = 0x1, 0x100000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class _Attributes(ctypes.Structure):
    """struct mount_attr (mount_setattr(2))."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def mount(source: str, target: str, kind: str, data: str, flags: int = 0) -> None:
    """mount(2); `data` at most 4,095 bytes, `flags` those above."""
    encoded = [os.fsencode(text) for text in (source, target, kind)]
    _check(_libc.mount(*encoded, flags, os.fsencode(data)), target)


def bind(source: str, target: str) -> None:
    """`source`, without what is mounted below it, at `target` too."""
    mount(source, target, "", "", _MS_BIND)


def sync(file: int) -> None:
    """All of the file system of an open file is on its disk."""
    _check(_libc.syncfs(file), "")


def bind_mapped(source: str, target: str, user_namespace: int) -> None:
    """`source` at `target` too, to be read, with its files' owners shifted as the namespace of the descriptor says.

    Owner 0 on the disk is root of the namespace there, and the other way round (mount_setattr(2), since Linux 5.12).
    """
    tree = _descriptor(
        _libc.syscall(_SYS_OPEN_TREE, -1, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC), source
    )
    try:
        wanted = _Attributes(attr_set=_MOUNT_ATTR_IDMAP | _MOUNT_ATTR_RDONLY, userns_fd=user_namespace)
        size = ctypes.sizeof(wanted)
        _check(
            _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size), source
        )
        flags = _MOVE_MOUNT_F_EMPTY_PATH
        _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", -1, os.fsencode(target), flags), target)
    finally:
        os.close(tree)


def unmount(target: str) -> bool:
    """Detaches the topmost mount at `target`, even one in use; False where nothing is mounted."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number), target)


def unmount_all(target: str) -> None:
    """Detaches everything that is mounted at `target`; nothing is fine."""
    while unmount(target):
        continue


def in_directory(directory: str, act: Callable[[], None]) -> None:
    """Runs `act` in a thread whose working directory, its own alone, is `directory`. Raises what `act` raises."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _check(_libc.unshare(_CLONE_FS), directory)
            os.chdir(directory)
            act()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _descriptor(result: int, subject: str) -> int:
    _check(0 if result >= 0 else result, subject)
    return result


def _check(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
