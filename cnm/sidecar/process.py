"""A sidecar process, as its starter sees it."""

from __future__ import annotations

import os
import socket
import sys

import cnm

_LISTENER = 3
"""Descriptor of the control socket in the new process."""


def start_process(module: str, listener: socket.socket) -> int:
    """A process that runs `module` and serves `listener`, in a session of its own; returns its pid. Raises OSError.

    It is started without what it has no use for: site packages, the environment, whatever lies in the working
    directory. Its messages go where the starter's go.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(cnm.__file__)))
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-S", "-s", "-P", "-m", module, "--control-fd", str(_LISTENER)],
        {"PYTHONPATH": root},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 2, 1),
            (os.POSIX_SPAWN_DUP2, listener.fileno(), _LISTENER),
        ],
        setsid=True,
        setsigmask=(),
    )
