"""Cut this process off from the machine's own network and mounts, so that no test can touch them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading

from netns_fixtures import syscalls
from netns_fixtures.errors import IsolationError

_KEPT_UNDER_SYS = ("fs/cgroup", "fs/bpf", "kernel/debug", "kernel/tracing", "kernel/security")
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_isolated = False


def isolate() -> None:
    """Move the calling thread, and what it starts from now on, into network and mount namespaces of its own.

    Inside: a loopback interface that is up and nothing else, mounts that do not propagate to the machine, a
    /sys that shows this namespace, an empty /run. The kernel frees all of it when the process ends, however
    it ends. Call it from the main thread before others start; threads that exist already stay with the
    machine. A second call does nothing. IsolationError if the process may not.
    """
    global _isolated
    if _isolated:
        return
    if reason := obstacle():
        raise IsolationError(reason)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        mount_sysfs()
        syscalls.mount("tmpfs", "/run", "tmpfs", data="mode=755")
    except OSError as error:
        raise IsolationError(f"cannot make namespaces: {error}; CAP_SYS_ADMIN is needed") from error
    _bring_loopback_up()
    _isolated = True


def is_isolated() -> bool:
    """Whether this process has left the machine, by `isolate` or by being started so (`unshare -mn`)."""
    return _isolated or all(_differs_from_init(kind) for kind in ("net", "mnt"))


def obstacle() -> str:
    """Why this process cannot be isolated, as a reason to skip; "" if nothing is known to be in the way."""
    if os.geteuid() != 0:
        return "needs root, since it makes network namespaces"
    if threading.current_thread() is not threading.main_thread():
        return "a process is isolated from its main thread only"
    return ""


def require_isolation() -> None:
    """IsolationError, with the remedy, unless this process is isolated."""
    if not is_isolated():
        raise IsolationError(
            "this process still shares the machine's network: set `netns_isolate = true` in pytest's"
            " configuration, or call netns_fixtures.isolate() first"
        )


def mount_sysfs() -> None:
    """Mount a /sys that shows the thread's network namespace, keeping the mounts below the old one."""
    kept = [f"/sys/{name}" for name in _KEPT_UNDER_SYS if os.path.ismount(f"/sys/{name}")]
    descriptors = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in kept}
    try:
        syscalls.mount("sysfs", "/sys", "sysfs")
        for path, descriptor in descriptors.items():
            source = f"/proc/thread-self/fd/{descriptor}"
            syscalls.mount(source, path, flags=syscalls.MS_BIND | syscalls.MS_REC)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _differs_from_init(kind: str) -> bool:
    """Whether the calling thread's namespace of a kind is not that of process 1, the machine's own."""
    try:
        return os.readlink(f"/proc/thread-self/ns/{kind}") != os.readlink(f"/proc/1/ns/{kind}")
    except OSError:
        return False


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags: int = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
