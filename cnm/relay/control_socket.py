"""The control socket in the run directory, where cnmd and the relay meet: mode 0600, packets kept apart."""

from __future__ import annotations

import contextlib
import os
import socket

from cnm.errors import CnmError, Unavailable

_BACKLOG = 8


def path(run_dir: str) -> str:
    return os.path.join(run_dir, "relay.sock")


def connect(run_dir: str, timeout: float) -> socket.socket | None:
    """A connection to whoever listens, None where nobody does. Each step on it takes at most `timeout` seconds."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(timeout)
    try:
        channel.connect(path(run_dir))
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise Unavailable(f"{path(run_dir)} cannot be connected: {_reason(error)}") from None
    return channel


def listen(run_dir: str) -> socket.socket:
    """A listener in place of one that nobody serves any more. Raises CnmError."""
    if (other := connect(run_dir, timeout=1.0)) is not None:
        other.close()
        raise CnmError(f"{path(run_dir)} is served by another relay: end it, or choose another run directory")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unready = f"{path(run_dir)}.{os.getpid()}"
    try:
        # The file gets the socket's mode, so there is no moment in which others may connect; and it gets its name when
        # it listens, so there is none in which it looks abandoned.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(unready)
        listener.listen(_BACKLOG)
        os.rename(unready, path(run_dir))
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(unready)
        raise CnmError(f"{path(run_dir)} cannot be made: {_reason(error)}") from None
    return listener


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
