"""Starts a program as systemd does one with a socket unit: its sockets are open at 3, 4, … and it is told so.

Run as a program: `python activated.py LISTEN_PID DESCRIPTOR… -- COMMAND…`, LISTEN_PID "" for the process's own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_FIRST = 3


class SocketUnit:
    """Listening Unix sockets at `paths`, which outlive whoever serves them.

    `process` is what LISTEN_PID says, `popen` starts a program.
    """

    def __init__(
        self,
        paths: Sequence[str],
        process: str = "",
        popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen,
    ) -> None:
        self._process = process
        self._popen = popen
        self.sockets = [_listen(path) for path in paths]

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        descriptors = [listener.fileno() for listener in self.sockets]
        told = [self._process, *map(str, descriptors)]
        return self._popen([sys.executable, __file__, *told, "--", *command], pass_fds=descriptors, **options)

    def close(self) -> None:
        for listener in self.sockets:
            Path(listener.getsockname()).unlink(missing_ok=True)
            listener.close()


def _listen(path: str) -> socket.socket:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    return listener


def _become(process: str, descriptors: Sequence[int], command: Sequence[str]) -> None:
    # First out of the way, then to their places: one may be where another is to go.
    beyond = _FIRST + len(descriptors) + max(descriptors)
    for offset, descriptor in enumerate(descriptors):
        os.dup2(descriptor, beyond + offset)
    for offset in range(len(descriptors)):
        os.dup2(beyond + offset, _FIRST + offset)
        os.close(beyond + offset)
    told = {"LISTEN_PID": process or str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
    os.execvpe(command[0], list(command), os.environ | told)


if __name__ == "__main__":
    own = sys.argv.index("--")
    _become(sys.argv[1], [int(word) for word in sys.argv[2:own]], sys.argv[own + 1 :])
