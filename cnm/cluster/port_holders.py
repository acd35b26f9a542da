"""Who listens on a TCP port of this host: for the error that names him."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from cnm.cluster.addresses import join_port
from cnm.errors import Conflict

_LISTENS = "0A"
"""State TCP_LISTEN in /proc/net/tcp."""


def check_free(address: str, port: int, purpose: str, flag: str) -> None:
    """Raises Conflict naming who listens there, and `flag`, by which another port is chosen."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME-WAIT are nobody's
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Conflict(
                f"port {join_port(address, port)} for {purpose} is in use by {holder(port)}, or choose another: {flag}"
            ) from None


def holder(port: int) -> str:
    """Words for who listens on the port, and how he is stopped."""
    for pid in _pids_of(_sockets(port)):
        return words(pid, _name(pid), _unit(pid))
    return "another program: stop it"


def words(pid: int, name: str, unit: str) -> str:
    """`unit` is systemd's, "" without one."""
    if unit == "etcd.service":
        return (
            f"etcd.service (pid {pid}), which comes with the package etcd-server: "
            "stop it with 'systemctl disable --now etcd'"
        )
    return f"{name} (pid {pid}): stop it"


def _sockets(port: int) -> set[str]:
    """Inodes of the sockets that listen on it, in the network namespace of the calling thread."""
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/thread-self/net/{table}") as lines:
            for fields in map(str.split, lines):
                if len(fields) > 9 and fields[3] == _LISTENS and fields[1].endswith(f":{port:04X}"):
                    found.add(f"socket:[{fields[9]}]")
    return found


def _pids_of(sockets: set[str]) -> list[int]:
    return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _has(pid, sockets)]


def _has(pid: int, sockets: set[str]) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for descriptor in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{descriptor}") in sockets:
                    return True
    return False


def _name(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return "a program that has ended"


def _unit(pid: int) -> str:
    """systemd's unit, "" without one."""
    with suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
        return file.read().strip().rpartition("/")[2]
    return ""
