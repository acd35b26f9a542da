"""Sockets that a service manager listens on for us (sd_listen_fds(3)): dockerd may ask before we run."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

log = logging.getLogger("cnm.http")

_FIRST = 3


def inherited() -> dict[str, socket.socket]:
    """Listening Unix sockets by their paths. Meant for this process only, and told once: children get none.

    Whoever serves one takes it out of the answer.
    """
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
            log.warning("a socket was handed over that is no Unix stream socket: nothing is served there")
            found.close()
    return sockets


def refuse(unserved: Mapping[str, socket.socket]) -> None:
    """Connections are refused from now on: whoever asked there would wait for ever. The manager's own ends, too."""
    for path, listener in unserved.items():
        log.warning("nothing is served on %s, which was handed over: it is closed", path)
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
