"""The Unix socket that the control API listens on: who may use it, and whose it is already."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cnm.errors import Conflict, InvalidParameter

GROUP = "docker"
"""Members of this group may use the socket, where the group exists; otherwise only root's."""

_MODE = 0o660
_BACKLOG = 256


def listen(path: str) -> socket.socket:
    """A listening socket at `path`, mode 0660. A file that nobody listens on any more is replaced.

    Raises Conflict while another daemon listens there, InvalidParameter where no socket can be.
    """
    with _directory_lock(path):
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), _MODE)  # before bind, so that it is never open to more
            listener.bind(path)
            os.chmod(path, _MODE)
            if os.geteuid() == 0:
                os.chown(path, 0, _group_id())
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise _unusable(path, error) from None
    return listener


def remove(path: str, listener: socket.socket) -> None:
    """Close the socket and remove its file, unless another daemon has put its own there."""
    with _directory_lock(path):
        listener.close()
        with suppress(FileNotFoundError):
            if not _answers(path):
                os.unlink(path)


@contextmanager
def _directory_lock(path: str) -> Iterator[None]:
    """Daemons that start at the same moment look and bind one after the other."""
    try:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _clear(path: str) -> None:
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise InvalidParameter(f"cannot listen on {path}: a file that is no socket is there: remove it")
    if _answers(path):
        raise Conflict(f"another daemon is listening on {path}: stop it, or give this one another directory")
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its queue is full, so somebody holds it
        except OSError:
            return False
    return True


def _group_id() -> int:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return 0


def _unusable(path: str, error: OSError) -> InvalidParameter:
    if error.errno is None or error.errno == errno.ENAMETOOLONG:
        reason = "the path is longer than 107 bytes: choose a shorter directory"
    else:
        reason = f"{os.strerror(error.errno).lower()}: check the directory"
    return InvalidParameter(f"cannot listen on {path}: {reason}")
