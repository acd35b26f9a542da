"""Wakes whoever waits for a file to grow: inotify(7), and a short sleep where there is none to be had."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time

_libc = ctypes.CDLL(None, use_errno=True)

_IN_MODIFY, _IN_CLOSE_WRITE = 0x2, 0x8
"""<sys/inotify.h>."""
_EVENT = struct.Struct("iIII")
"""Watch, mask, cookie, length of the name that follows: none, for a file."""
_SLEEP_SECONDS = 0.1


class FileWatch:
    """Of the file at `path`, which exists."""

    def __init__(self, path: str) -> None:
        self._descriptor = int(
            _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        )  # -1: a user may have 128 only
        if self._descriptor >= 0:
            wanted = _IN_MODIFY | _IN_CLOSE_WRITE
            if _libc.inotify_add_watch(self._descriptor, os.fsencode(path), wanted) < 0:
                self.close()

    def wait(self, seconds: float) -> bool:
        """Until something was written since the last call, or the time is over; whether its writer closed the file."""
        if self._descriptor < 0:
            time.sleep(min(seconds, _SLEEP_SECONDS))
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
        return _has_closed(os.read(self._descriptor, 65536))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _has_closed(events: bytes) -> bool:
    whole = len(events) - len(events) % _EVENT.size
    return any(mask & _IN_CLOSE_WRITE for _, mask, _, _ in _EVENT.iter_unpack(events[:whole]))
