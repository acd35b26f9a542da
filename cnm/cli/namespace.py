"""Run a program inside a sandbox: its network, its host name and files, and a /sys that shows its interfaces."""

from __future__ import annotations

import ctypes
import os
import signal
import socket

from cnm.errors import CnmError, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 0x1
MS_BIND = 0x1000
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


class Inside:
    """What a program in the sandbox of this name has of its own.

    `netns` is the path of its network namespace, `hostname` its host name; "" where they are the host's. `files` are
    paths of its files by those that they go over.
    """

    __slots__ = ("files", "hostname", "name", "netns")

    def __init__(self, name: str, netns: str, hostname: str, files: dict[str, str]) -> None:
        self.name = name
        self.netns = netns
        self.hostname = hostname
        self.files = files


def execute_in(inside: Inside, command: list[str]) -> NoReturn:
    """Replace this process by `command`.

    Raises KernelError where the sandbox cannot be entered, CannotExecute where the command cannot be run.
    """
    if inside.netns or inside.hostname or inside.files:
        where = f" ({inside.netns})" if inside.netns else ""
        try:
            _enter(inside)
        except OSError as error:
            raise _explained(f"cannot enter sandbox {inside.name}{where}", error) from None
    for target, source in inside.files.items():
        try:
            _cover(target, source)
        except OSError as error:
            failing = f"cannot put {source} over {target} for sandbox {inside.name}"
            raise _explained(failing, error) from None
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores both, and a program would inherit that
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise CannotExecute(f'exec: "{command[0]}": executable file not found in $PATH', NOT_FOUND) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotExecute(f'exec: "{command[0]}": {reason.lower()}', NOT_EXECUTABLE) from None


def _explained(failing: str, error: OSError) -> KernelError:
    remedy = ": run as root" if isinstance(error, PermissionError) else ""
    reason = (error.strerror or str(error)).lower()
    return KernelError(f"{failing}: {reason}{remedy}", error.errno or 0)


def _enter(inside: Inside) -> None:
    """Enter its network namespace and namespaces of our own for mounts and the host name, which nobody else sees.

    A sysfs shows the interfaces of the namespace that it was mounted in, and tools read /sys/class/net.
    """
    if inside.netns:
        descriptor = os.open(inside.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc().setns(descriptor, CLONE_NEWNET))
        finally:
            os.close(descriptor)
    read_only = os.statvfs("/sys").f_flag & os.ST_RDONLY
    _check(_libc().unshare(CLONE_NEWNS | (CLONE_NEWUTS if inside.hostname else 0)))
    _mount("", "/", "", MS_REC | MS_SLAVE)
    if inside.netns:
        _libc().umount2(b"/sys", MNT_DETACH)  # where /sys is no mount, the new one simply covers it
        _mount("sysfs", "/sys", "sysfs", MS_RDONLY if read_only else 0)
    if inside.hostname:
        socket.sethostname(inside.hostname)


def _cover(target: str, source: str) -> None:
    """The file that `target` leads to, if it is a symbolic link; one that the host lacks is left out."""
    if os.path.exists(target):
        _mount(source, target, "", MS_BIND)


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    words = (os.fsencode(source), os.fsencode(target), os.fsencode(kind))
    _check(_libc().mount(*words, ctypes.c_ulong(flags), None))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
