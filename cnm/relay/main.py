"""cnm-relay: takes its control socket, drops its privileges, serves."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence

from cnm.errors import CnmError
from cnm.relay import privileges
from cnm.relay.control import Control
from cnm.relay.control_socket import listen
from cnm.relay.loop import Loop
from cnm.relay.messages import namespace_identity

_FIRST_PASSED = 3
"""Descriptor of the first socket that systemd passes (sd_listen_fds(3))."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        listener = _control_socket(options)
        privileges.close_inherited(keep=listener.fileno())
        privileges.allow_many_descriptors()
        namespace = namespace_identity()
        privileges.drop()
    except CnmError as error:
        print(f"cnm-relay: {error}", file=sys.stderr)
        return error.exit_code
    os.chdir("/")
    logging.basicConfig(format="level=%(levelname)s from=cnm-relay msg=%(message)r", level=logging.INFO)
    loop = Loop()
    Control(loop, listener, namespace)
    loop.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnm-relay", description="The relay for published ports; cnmd starts it."
    )
    parser.add_argument(
        "--run", metavar="DIR", default="/run/cnm", help="directory of its control socket (/run/cnm)"
    )
    parser.add_argument("--control-fd", metavar="N", type=int, help="the control socket, bound and listening")
    return parser


def _control_socket(options: argparse.Namespace) -> socket.socket:
    """The socket that whoever started us opened; else our own at the usual place."""
    passed = options.control_fd
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        passed = _FIRST_PASSED
    if passed is None:
        return listen(options.run)
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
