"""How a sidecar begins: it takes its control socket, and drops its privileges."""

from __future__ import annotations

import argparse
import logging
import os
import socket
from typing import NamedTuple

from cnm.errors import CnmError
from cnm.sidecar import fd_store, privileges
from cnm.sidecar.control_socket import listen
from cnm.sidecar.fd_store import FdStore
from cnm.sidecar.packets import namespace_identity


class Begun(NamedTuple):
    listener: socket.socket
    kept: dict[str, socket.socket]
    """Sockets that the service manager kept when the process before ended, by their names."""
    store: FdStore
    namespace: str
    """The network namespace that it was started in, as `packets.namespace_identity` names it."""


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """Of the options that every sidecar has."""
    made = argparse.ArgumentParser(prog=program, description=description)
    made.add_argument(
        "--run", metavar="DIR", default="/run/cnm", help="directory of its control socket (/run/cnm)"
    )
    made.add_argument("--control-fd", metavar="N", type=int, help="the control socket, bound and listening")
    return made


def begin(program: str, control_fd: int | None, path: str) -> Begun:
    """The socket that whoever started us opened, else our own at `path`. Raises CnmError."""
    passed = fd_store.handed_over(os.environ)
    listener = _control_socket(next(iter(passed.values()), control_fd), path)
    kept = dict(list(passed.items())[1:])
    privileges.close_inherited(keep={listener.fileno(), *kept.values()})
    privileges.allow_many_descriptors()
    namespace = namespace_identity()
    privileges.drop()
    os.chdir("/")
    logging.basicConfig(format=f"level=%(levelname)s from={program} msg=%(message)r", level=logging.INFO)
    sockets = {name: socket.socket(fileno=descriptor) for name, descriptor in kept.items()}
    return Begun(listener, sockets, FdStore(os.environ.get("NOTIFY_SOCKET", "")), namespace)


def _control_socket(passed: int | None, path: str) -> socket.socket:
    if passed is None:
        return listen(path)
    try:
        listener = socket.socket(fileno=passed)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise CnmError(f"descriptor {passed} is not a control socket: {why}") from None
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        raise CnmError(
            f"descriptor {passed} is not a control socket: it must be a unix socket of type seqpacket"
        )
    return listener
