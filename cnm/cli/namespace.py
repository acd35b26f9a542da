"""Run a program inside a sandbox: its network namespace, and a /sys that shows its interfaces."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import NoReturn

from cnm.errors import CnmError, KernelError

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 0x1
MS_REC = 0x4000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2
"""linux/sched.h, linux/mount.h, sys/mount.h"""

NOT_EXECUTABLE = 126
NOT_FOUND = 127


class CannotExecute(CnmError):
    """The command cannot be started; the exit code is a shell's, 126 or 127."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def execute_in(netns: str, sandbox: str, command: list[str]) -> NoReturn:
    """Replace this process by `command` in the namespace at path `netns` ("": the host's own).

    Raises KernelError where the namespace cannot be entered, CannotExecute where the command cannot be run.
    """
    if netns:
        try:
            _enter(netns)
        except OSError as error:
            remedy = ": run as root" if isinstance(error, PermissionError) else ""
            reason = (error.strerror or str(error)).lower()
            raise KernelError(
                f"cannot enter sandbox {sandbox} ({netns}): {reason}{remedy}", error.errno or 0
            ) from None
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores both, and a program would inherit that
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise CannotExecute(f'exec: "{command[0]}": executable file not found in $PATH', NOT_FOUND) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotExecute(f'exec: "{command[0]}": {reason.lower()}', NOT_EXECUTABLE) from None


def _enter(netns: str) -> None:
    """Enter the namespace, then mount a sysfs over /sys that nobody else sees.

    A sysfs shows the interfaces of the namespace that it was mounted in, and tools read /sys/class/net.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.setns(descriptor, CLONE_NEWNET))
    finally:
        os.close(descriptor)
    read_only = os.statvfs("/sys").f_flag & os.ST_RDONLY
    _check(libc.unshare(CLONE_NEWNS))
    _check(libc.mount(b"", b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))
    libc.umount2(b"/sys", MNT_DETACH)  # where /sys is no mount, the new one simply covers it
    _check(libc.mount(b"sysfs", b"/sys", b"sysfs", ctypes.c_ulong(MS_RDONLY if read_only else 0), None))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
