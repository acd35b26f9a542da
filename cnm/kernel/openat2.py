"""Opens paths below a directory that stands for the root: openat2(2), which Python lacks. It releases the GIL."""

from __future__ import annotations

import ctypes
import errno
import os

_SYS_OPENAT2 = 437
"""The same number on every architecture (asm-generic/unistd.h)."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_RACES = 64
"""How often a path is tried again that somebody moves about meanwhile; openat2(2) says EAGAIN."""

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: str, flags: int) -> int:
    """A descriptor of `path` below the directory `root`, which is "/" for every symlink on the way.

    Links of /proc that lead elsewhere are not followed. The descriptor is closed by exec. Errors are OSErrors that
    name the path.
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
