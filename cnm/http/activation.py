"""Sockets that a service manager listens on for us (sd_listen_fds(3)): dockerd may ask before we run."""

from __future__ import annotations

import os
import socket

_FIRST = 3


def inherited() -> dict[str, socket.socket]:
    """Listening Unix sockets by their paths. Meant for this process only, and told once: children get none."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal():
        return {}
    sockets = {}
    for descriptor in range(_FIRST, _FIRST + int(count)):
        os.set_inheritable(descriptor, False)
        found = socket.socket(fileno=descriptor)
        if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM:
            sockets[str(found.getsockname())] = found
        else:
            found.close()
    return sockets
