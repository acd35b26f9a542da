"""Counts the mutating system calls of one thread of a child, and kills the child before the one asked for.

The child's first thread installs a seccomp filter whose listener goes to the parent (seccomp_unotify(2)): every call
that may change something waits until the parent has judged it. Calls of other threads are not counted.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from fcntl import ioctl
from typing import NamedTuple

_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "write": 1, "open": 2, "close": 3, "pwrite64": 18, "writev": 20, "sendto": 44, "sendmsg": 46, "bind": 49,
        "listen": 50, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83,
        "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "mount": 165,
        "umount2": 166, "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "fchmodat": 268,
        "unshare": 272, "fallocate": 285, "pwritev": 296, "sendmmsg": 307, "setns": 308, "renameat2": 316,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "umount2": 39, "mount": 40,
        "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52, "fchmodat": 53, "openat": 56, "close": 57,
        "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70, "fsync": 82, "fdatasync": 83, "unshare": 97,
        "bind": 200, "listen": 201, "sendto": 206, "sendmsg": 211, "setns": 268, "sendmmsg": 269, "renameat2": 276,
    },
}  # fmt: skip
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_PIDFD_GETFD = 438

_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_PR_SET_NO_NEW_PRIVS = 38
_RET_ALLOW, _RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NUMBER, _OFFSET_FIRST_ARGUMENT = 0, 16
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QII iI Q 6Q")
_RESPONSE = struct.Struct("=Qqi I")
_CONTINUE = 1
_INTERNET = (socket.AF_INET, socket.AF_INET6)
"""Families of the sockets that hold a port of the host while they are open."""
_NLM_F_ACK, _BATCH_BEGIN = 4, 0x10
_NFT_QUESTIONS = frozenset(0x0A00 | kind for kind in (1, 4, 7, 10, 13, 16, 19, 23))
"""NFT_MSG_GET*, which libnftables has acknowledged."""

_libc = ctypes.CDLL(None, use_errno=True)


class Call(NamedTuple):
    """A system call that waits: its name, and what it is about (a path, a descriptor's file, a message's type)."""

    name: str
    subject: str

    def __str__(self) -> str:
        return f"{self.name} {self.subject}"


class Outcome(NamedTuple):
    """The mutating calls in order, the last one not carried out where `killed`."""

    calls: list[Call]
    killed: bool


def supported() -> bool:
    return platform.machine() in _NUMBERS


def install(exempt: int) -> int:
    """Filter the calling thread from now on; the listener's descriptor. `write` to `exempt` passes unseen."""
    numbers = _NUMBERS[platform.machine()]
    program = _program(list(numbers.values()), numbers["write"], exempt)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener: int = _libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER, header)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _program(numbers: Sequence[int], write: int, exempt: int) -> bytes:
    """Classic BPF: notify about `numbers`, except `write` to `exempt`."""
    lines = [(_LOAD, 0, 0, _OFFSET_NUMBER)]
    for position, number in enumerate(numbers):
        lines.append((_JUMP_IF_EQUAL, len(numbers) - position, 0, number))
    lines += [
        (_RETURN, 0, 0, _RET_ALLOW),
        (_JUMP_IF_EQUAL, 0, 2, write),
        (_LOAD, 0, 0, _OFFSET_FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 1, 0, exempt),
        (_RETURN, 0, 0, _RET_USER_NOTIF),
        (_RETURN, 0, 0, _RET_ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def supervise(
    pid: int, listener_number: int, wake: int, kill_at: int = 0, before: Callable[[Call], None] | None = None
) -> Outcome:
    """Let the filtered child `pid` go on until it has something to say at descriptor `wake`, or ends.

    With `kill_at` the child is killed when its call of that number (from 1) begins; `before` is told of each call.
    """
    pidfd = os.pidfd_open(pid)
    listener: int = _libc.syscall(_PIDFD_GETFD, pidfd, listener_number, 0)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    names = {number: name for name, number in _NUMBERS[platform.machine()].items()}
    calls: list[Call] = []
    try:
        while True:
            ready, _, _ = select.select([listener, wake], [], [])
            if listener not in ready:
                return Outcome(calls, killed=False)
            ident, call = _receive(listener, pid, names)
            if call is not None and not _is_restart(call, calls):
                calls.append(call)
                if before is not None:
                    before(call)
                if len(calls) == kill_at:
                    os.kill(pid, signal.SIGKILL)
                    return Outcome(calls, killed=True)
            ioctl(listener, _ANSWER, _RESPONSE.pack(ident, 0, 0, _CONTINUE))
    finally:
        os.close(listener)
        os.close(pidfd)


def _is_restart(call: Call, calls: Sequence[Call]) -> bool:
    """A write to some of /proc/sys/net starts over as long as another process holds the kernel's rtnl lock."""
    return call.subject.startswith("/proc/sys/net/") and calls[-1:] == [call]


def _receive(listener: int, pid: int, names: dict[int, str]) -> tuple[int, Call | None]:
    """(the notification's id, the call if it changes anything and is the first thread's own)."""
    buffer = bytearray(_NOTIFICATION.size)
    ioctl(listener, _RECEIVE, buffer)
    ident, thread, _flags, number, _arch, _ip, *arguments = _NOTIFICATION.unpack(buffer)
    return ident, _judge(names[number], pid, arguments) if thread == pid else None


def _judge(name: str, pid: int, arguments: Sequence[int]) -> Call | None:
    """None for what changes nothing outside the process: questions, opens for reading, closes of plain files."""
    if name in ("sendto", "sendmsg", "sendmmsg"):
        if _socket_family(pid, arguments[0]) is socket.AF_UNIX:
            return Call(name, "AF_UNIX")
        data = _sent(name, pid, arguments[1])
        _length, kind, flags = struct.unpack_from("=IHH", data.ljust(8, b"\0"))
        mutates = kind == _BATCH_BEGIN or (flags & _NLM_F_ACK and kind not in _NFT_QUESTIONS)
        return Call(name, f"message {kind}") if mutates else None
    if name in ("open", "openat"):
        path, flags = (arguments[0], arguments[1]) if name == "open" else (arguments[1], arguments[2])
        return Call(name, _text(pid, path)) if flags & (os.O_CREAT | os.O_TRUNC) else None
    if name in ("mount", "umount2", "unlink", "mkdir", "chmod", "rename", "rmdir", "truncate", "creat"):
        return Call(name, _text(pid, arguments[1 if name == "mount" else 0]))
    if name in ("mkdirat", "unlinkat", "fchmodat", "renameat", "renameat2"):
        return Call(name, _text(pid, arguments[1]))
    if name == "unshare":
        return Call(name, "")
    if name in ("bind", "listen", "close"):
        family = _socket_family(pid, arguments[0])
        seen = family in _INTERNET or (name != "close" and family is socket.AF_UNIX)
        return Call(name, family.name) if family and seen else None
    file = os.readlink(f"/proc/{pid}/fd/{arguments[0]}")
    return None if name == "write" and arguments[0] <= 2 else Call(name, _kind_of(file))


def _socket_family(pid: int, descriptor: int) -> socket.AddressFamily | None:
    """None for what is no socket, or not open."""
    try:
        if not os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:"):
            return None
    except FileNotFoundError:
        return None
    pidfd = os.pidfd_open(pid)
    duplicate: int = _libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
    os.close(pidfd)
    with socket.socket(fileno=duplicate) as same:
        return socket.AddressFamily(same.family)


def _kind_of(file: str) -> str:
    """Without the inode numbers, which differ from run to run."""
    return file.partition(":[")[0]


def _sent(name: str, pid: int, address: int) -> bytes:
    """The first bytes of what a send call sends."""
    if name == "sendto":
        return _memory(pid, address, 8)
    (vector,) = struct.unpack_from("=Q", _memory(pid, address + 16, 8))
    (base,) = struct.unpack_from("=Q", _memory(pid, vector, 8))
    return _memory(pid, base, 8)


def _text(pid: int, address: int) -> str:
    return _memory(pid, address, 256).partition(b"\0")[0].decode(errors="replace")


def _memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(address)
        return file.read(size)
