"""The control socket in the run directory, where cnmd and a sidecar meet: mode 0600, packets kept apart."""

from __future__ import annotations

import contextlib
import os
import socket

from cnm.errors import CnmError, Unavailable

_BACKLOG = 8


def connect(path: str, timeout: float) -> socket.socket | None:
    """A connection to whoever listens, None where nobody does. Each step on it takes at most `timeout` seconds."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(timeout)
    try:
        channel.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise Unavailable(f"{path} cannot be connected: {_reason(error)}") from None
    return channel


def listen(path: str) -> socket.socket:
    """A listener in place of one that nobody serves any more. Raises CnmError."""
    if (other := connect(path, timeout=1.0)) is not None:
        other.close()
        raise CnmError(f"{path} is served by another process: end it, or choose another run directory")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unready = f"{path}.{os.getpid()}"
    try:
        # The file gets the socket's mode, so there is no moment in which others may connect; and it gets its name when
        # it listens, so there is none in which it looks abandoned.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(unready)
        listener.listen(_BACKLOG)
        os.rename(unready, path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(unready)
        raise CnmError(f"{path} cannot be made: {_reason(error)}") from None
    return listener


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
