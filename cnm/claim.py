"""One cnmd for a network namespace, and one for a run directory: a second one would clear the first one's things away.

The claim on the namespace is an abstract Unix socket, which belongs to the namespace that it was made in; any user may
make one, so only root's counts. Both claims end with the process, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct

from cnm.errors import Conflict, InvalidParameter

_NAMESPACE_ADDRESS = "\0cnmd"
_PEER_CREDENTIALS = struct.Struct("=iII")
"""struct ucred: process, user, group."""

log = logging.getLogger(__name__)


class Claim:
    """Held until `close`. Raises Conflict, naming the process, where another cnmd holds one of the two."""

    def __init__(self, run_dir: str) -> None:
        self._file = _lock(os.path.join(run_dir, "cnmd.lock"))
        try:
            self._socket = _listen()
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        self._socket.close()
        os.close(self._file)


def _lock(path: str) -> int:
    """A descriptor of the file with its lock; the file says whose it is, and stays."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {os.strerror(error.errno or 0).lower()}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 20).decode(errors="replace").strip()
        os.close(file)
        raise Conflict(
            f"another cnmd (process {holder}) uses {os.path.dirname(path)}: stop it, or give this one another --run"
        ) from None
    os.truncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_NAMESPACE_ADDRESS)
        listener.listen()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        process, user = _holder()
        if user == 0:
            listener.close()
            raise Conflict(
                f"another cnmd (process {process}) runs in this network namespace: stop it first"
            ) from None
        log.warning("process %d of user %d poses as cnmd in this network namespace", process, user)
    return listener


def _holder() -> tuple[int, int]:
    """(process, user) that listens on the namespace's address; (0, -1) where it does not let us ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_NAMESPACE_ADDRESS)
        except OSError:
            return 0, -1
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    process, user, _group = _PEER_CREDENTIALS.unpack(credentials)
    return process, user
