"""The system calls on mounts and paths that Python lacks: mount, umount2, openat2; they release the GIL.

They act in the caller's mount namespace. Errors are OSErrors that name the path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable

_MNT_DETACH = 2
_CLONE_FS = 0x200
_SYS_OPENAT2 = 437
"""The same number on every architecture (asm-generic/unistd.h)."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_RACES = 64
"""How often a path is tried again that somebody moves about meanwhile; openat2(2) says EAGAIN."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class _How(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def mount(source: str, target: str, kind: str, data: str, flags: int = 0) -> None:
    """mount(2); `data` at most 4,095 bytes."""
    encoded = [os.fsencode(text) for text in (source, target, kind)]
    _check(_libc.mount(*encoded, flags, os.fsencode(data)), target)


def unmount(target: str) -> bool:
    """Detaches the topmost mount at `target`, even one in use; False where nothing is mounted."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number), target)


def open_in_root(root: int, path: str, flags: int) -> int:
    """A descriptor of `path` below the directory `root`, which is "/" for every symlink on the way (openat2(2)).

    Links of /proc that lead elsewhere are not followed. The descriptor is closed by exec.
    """
    how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    name = os.fsencode(path)
    for _ in range(_RACES):
        found = _libc.syscall(_SYS_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return int(found)
        if ctypes.get_errno() != errno.EAGAIN:
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


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


def _check(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
