"""The four system calls on namespaces and mounts that Python 3.11 does not offer, by way of ctypes.

They act on the calling thread (unshare, setns) or on its mount namespace (mount, umount), never on a child:
forking a process that has threads is what this package avoids.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

THREAD_NETNS = "/proc/thread-self/ns/net"
"""The calling thread's network namespace; /proc/self would name the main thread's."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2)); OSError says why not."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace behind an open descriptor (setns(2))."""
    _check(_libc.setns(descriptor, CLONE_NEWNET), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); an empty `kind` or `data` is passed as NULL."""
    arguments = [source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None]
    _check(_libc.mount(*arguments), target)


def umount(target: str) -> None:
    """Detach what is mounted at `target` at once, even while in use (umount2(2) with MNT_DETACH)."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), target)


def _check(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
