"""Processes whoever their parent is: when they began, whether they have ended, their signals and their exit codes.

A pid alone may be another process' by now: with the time at which it began it names one process.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_CHILD_SUBREAPER = 36
"""<linux/prctl.h>."""
_STATE_FIELD, _START_FIELD = 0, 19
"""Of /proc/PID/stat, counted behind the name of the program (proc(5): fields 3 and 22)."""


def adopt_orphans() -> None:
    """From now on processes that descendants of ours leave behind are our children (PR_SET_CHILD_SUBREAPER)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def started(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 where there is none."""
    fields = _stat(pid)
    return int(fields[_START_FIELD]) if fields else 0


def is_running(pid: int, begun: int) -> bool:
    """Whether this very process is there, and not dead: one that nobody has waited for is."""
    fields = _stat(pid)
    return bool(fields) and int(fields[_START_FIELD]) == begun and fields[_STATE_FIELD] not in (b"Z", b"X")


def has_ended(pid: int, seconds: float, begun: int = 0) -> bool:
    """Waits for a process, whoever's child it is; where `begun` is given, for the one that began then."""
    with _opened(pid, begun) as process:
        return process is None or await_end(process, seconds)


def exit_code(child: subprocess.Popen[bytes], seconds: float) -> int:
    """Of a child that is waited for here, by nobody else; one that takes longer is killed. Raises TimeoutExpired.

    `Popen.wait` with a time limit sleeps, up to 50 ms at a time: of an exec that takes 55 ms it was a sixth.
    """
    with _opened(child.pid, 0) as process:
        if process is not None and not await_end(process, seconds):
            child.kill()
            child.wait()
            raise subprocess.TimeoutExpired(child.args, seconds)
    return child.wait()


def kill(pid: int, number: int, begun: int = 0) -> bool:
    """Send a signal, though never to another process than that which began at `begun`; False where it has ended."""
    with _opened(pid, begun) as process:
        if process is None:
            return False
        try:
            signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return False
        return True


def await_end(process: int, seconds: float | None = None) -> bool:
    """Whether the process behind a pidfd has ended, or does in time (None: ever)."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def reap(process: int) -> int | None:
    """The exit code of the ended child behind a pidfd, 128 + N for signal N; None where it is no child of ours."""
    try:
        told = os.waitid(os.P_PIDFD, process, os.WEXITED)
    except ChildProcessError:
        return None
    assert told is not None
    return told.si_status if told.si_code == os.CLD_EXITED else 128 + told.si_status


@contextmanager
def _opened(pid: int, begun: int) -> Iterator[int | None]:
    """A pidfd for the block; None where the process is gone, or is not the one that began at `begun` (0: whichever)."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield None if begun and started(pid) != begun else process
    finally:
        os.close(process)


def _stat(pid: int) -> list[bytes]:
    """From the state on; nothing where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
