"""Waits for processes to end: one thread for all of them, by pidfds, whoever their parent is.

The launcher adopts orphans (PR_SET_CHILD_SUBREAPER): the process of an exec, which runc leaves behind once it has
started, becomes a child whose exit code can be read, and so does conmon. containerd's shim does the same. The price
is that whatever anybody else leaves behind must be reaped here, too.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from cnm.kernel.processes import adopt_orphans, reap, started

log = logging.getLogger("cnm.launcher")

_STRAY_SECONDS = 10.0
"""A child that is dead for this long, and that nobody has waited for, is a stray."""

Ended = Callable[[int | None], None]
"""Is told the exit code, 128 + N for signal N; None for a process that was no child of ours."""


class _Watched(NamedTuple):
    pid: int
    ended: Ended


class Exits:
    """What is called is called in the watching thread, one after the other: it must be brief. Thread-safe."""

    def __init__(self) -> None:
        adopt_orphans()
        self._lock = threading.Lock()
        self._poll = select.epoll()
        self._watched: dict[int, _Watched] = {}
        self._gone: list[Ended] = []
        self._stray, self._looked = 0, time.monotonic()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="exits", daemon=True)
        self._thread.start()

    def watch(self, key: str, pid: int, called: Callable[[str], None], begun: int = 0) -> None:
        """Call `called(key)` once the process has ended; at once where it has, or where `begun` says it is another."""
        if begun and started(pid) != begun:
            self._ended_already(lambda _code: called(key))
        else:
            self.on_end(pid, lambda _code: called(key))

    def on_end(self, pid: int, ended: Ended) -> None:
        """Tell `ended` the exit code of the process; a child of ours is reaped."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended_already(ended)
            return
        with self._lock:
            self._watched[descriptor] = _Watched(pid, ended)
        self._poll.register(descriptor, select.EPOLLIN)

    def close(self) -> None:
        """Watch no longer; nothing is called any more."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._poll.close()
        os.close(self._wake)
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched.clear()

    def _ended_already(self, ended: Ended) -> None:
        with self._lock:
            self._gone.append(ended)
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._stopped:
            ready = self._poll.poll(_STRAY_SECONDS)
            if time.monotonic() - self._looked >= _STRAY_SECONDS:
                self._reap_stray()
            for descriptor, _ in ready:
                if descriptor == self._wake:
                    self._tell_gone()
                else:
                    self._end(descriptor)

    def _tell_gone(self) -> None:
        os.eventfd_read(self._wake)
        with self._lock:
            gone, self._gone = self._gone, []
        for ended in gone:
            _tell(ended, None)

    def _end(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        with self._lock:
            watched = self._watched.pop(descriptor)
        code = reap(descriptor)
        os.close(descriptor)
        if not self._stopped:
            _tell(watched.ended, code)

    def _reap_stray(self) -> None:
        """Whoever starts a process waits for it soon; so a dead child that is seen twice was left to us by another."""
        self._looked = time.monotonic()
        with suppress(ChildProcessError):
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            pid = dead.si_pid if dead else 0
            if pid and pid == self._stray:
                os.waitpid(pid, os.WNOHANG)
            self._stray = pid


def _tell(ended: Ended, code: int | None) -> None:
    try:
        ended(code)
    except Exception:
        log.exception("what follows a process' end failed")
