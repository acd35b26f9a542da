"""Where a server listens: a Unix socket with who may use it and whose it is already, or a TCP port with TLS."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from cnm.errors import Conflict, InvalidParameter

GROUP = "docker"
"""Members of this group may use the socket, where the group exists; otherwise only root's."""

_MODE = 0o660
_BACKLOG = 256
_DEAD_SECONDS, _PROBES = 15, 3
"""After which a host that does not answer counts as gone, and how often it is asked until then."""


class Place(Protocol):
    """A place to listen at; `tls` is what connections are wrapped with, None for plain ones."""

    tls: ssl.SSLContext | None

    def listen(self) -> socket.socket:
        """Raises Conflict where another daemon listens there, InvalidParameter where nobody can."""

    def wake(self) -> None:
        """Make a connection, so that whoever waits for one looks around."""

    def leave(self, listener: socket.socket) -> None:
        """Close the listener, and remove what `listen` made."""


class UnixPlace:
    """A Unix socket at `path`; `inherited` is the listening socket where a service manager made it already."""

    tls: ssl.SSLContext | None = None

    def __init__(self, path: str, inherited: socket.socket | None = None) -> None:
        self.path = path
        self._inherited = inherited

    def __str__(self) -> str:
        return self.path

    def listen(self) -> socket.socket:
        return self._inherited or listen(self.path)

    def wake(self) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)

    def leave(self, listener: socket.socket) -> None:
        """An inherited one stays where it is: whoever made it keeps it for the next daemon."""
        if self._inherited is None:
            remove(self.path, listener)
        else:
            listener.close()


def watch(connection: socket.socket) -> None:
    """From now on it fails once the other host is gone, also while nothing is said; a listener's connections, too.

    However long an answer takes: it is TCP that has to answer (tcp(7)). Raises OSError.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        connection.setsockopt(socket.IPPROTO_TCP, option, _DEAD_SECONDS // _PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_SECONDS * 1000)


class TlsPlace:
    """A TCP port whose clients must show a certificate that `tls` trusts."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        self.tls: ssl.SSLContext | None = tls
        self._address = (host, port)

    def __str__(self) -> str:
        host, port = self._address
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def listen(self) -> socket.socket:
        try:
            listener = socket.create_server(
                self._address, family=socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
            )
            watch(listener)
            return listener
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidParameter(f"cannot listen on {self}: {reason}: choose another address") from None

    def wake(self) -> None:
        with suppress(OSError):
            socket.create_connection(self._address, timeout=1).close()

    def leave(self, listener: socket.socket) -> None:
        listener.close()


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
