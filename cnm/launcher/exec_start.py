"""How an exec begins: runc is told of its process, its streams are made, and runc has ended once it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from cnm.kernel import processes
from cnm.launcher.runtime import PATIENCE, Runtime, failure, how_ended
from cnm.launcher.streams import PipeStreams, Streams, TerminalStreams
from cnm.wire import codec

_TERMINAL_SECONDS = 5.0


class Begun(NamedTuple):
    """A process, when it began (`processes.started`), and our ends of its streams."""

    pid: int
    at: int
    streams: Streams


def begin(
    runtime: Runtime, container: str, process: Mapping[str, Any], *, attached: Iterable[bool], folder: str
) -> Begun:
    """Start an OCI process in a container; it is an orphan, which `exits.Exits` adopts.

    `attached` says of standard input, output and error whether somebody has it; a terminal always has us. `folder`
    is for short-lived files. Nothing is left of a failure. Raises RuntimeFailed.
    """
    with ExitStack() as undo, tempfile.TemporaryDirectory(dir=folder, prefix="") as place:
        ends = _Terminal(place) if process["terminal"] else _Pipes(attached)
        undo.callback(ends.close)
        with open(os.path.join(place, "process"), "wb") as file:
            file.write(codec.encode(process))
        _run(runtime, container, place, ends)
        with open(os.path.join(place, "pid")) as pid_file:
            pid = int(pid_file.read())
        descriptor = os.pidfd_open(pid)  # nobody has reaped it yet
        undo.callback(os.close, descriptor)
        undo.callback(signal.pidfd_send_signal, descriptor, signal.SIGKILL)
        begun = Begun(pid, processes.started(pid), ends.streams(descriptor))
        undo.pop_all()
    return begun


class _Pipes:
    """What a process without a terminal begins with; what nobody is attached to is /dev/null."""

    options: tuple[str, ...] = ()

    def __init__(self, attached: Iterable[bool]) -> None:
        pairs = [os.pipe2(os.O_CLOEXEC) if asked else (-1, -1) for asked in attached]
        (stdin, self._stdin), (self._stdout, stdout), (self._stderr, stderr) = pairs
        self.theirs = (stdin, stdout, stderr)

    def given(self) -> tuple[int, int, int]:
        stdin, stdout, stderr = (end if end >= 0 else subprocess.DEVNULL for end in self.theirs)
        return stdin, stdout, stderr

    def streams(self, process: int) -> Streams:
        self._close_theirs()
        return PipeStreams(self._stdin, self._stdout, self._stderr, process)

    def close(self) -> None:
        self._close_theirs()
        for end in (self._stdin, self._stdout, self._stderr):
            if end >= 0:
                os.close(end)

    def _close_theirs(self) -> None:
        for end in self.theirs:
            if end >= 0:
                os.close(end)
        self.theirs = (-1, -1, -1)


class _Terminal:
    """Where runc sends the master of the terminal that it makes in the container: a socket in the folder it runs in."""

    options = ("--console-socket", "console")

    def __init__(self, folder: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{descriptor}/console")  # whatever the length of the path
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            raise
        finally:
            os.close(descriptor)

    def given(self) -> tuple[int, int, int]:
        return subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL

    def streams(self, process: int) -> Streams:
        """runc has ended, so what it sent is there."""
        self._listener.settimeout(_TERMINAL_SECONDS)
        connection, _ = self._listener.accept()
        with self._listener, connection:
            connection.settimeout(_TERMINAL_SECONDS)
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        return TerminalStreams(descriptors[0], process)

    def close(self) -> None:
        self._listener.close()


def _run(runtime: Runtime, container: str, place: str, ends: _Pipes | _Terminal) -> None:
    """Have runc start what the file `process` says. It writes `pid` and `log`."""
    command = runtime.command("--log", "log", "exec", "--detach", "--process", "process", "--pid-file", "pid")
    stdin, stdout, stderr = ends.given()
    child = subprocess.Popen(
        [*command, *ends.options, container],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=runtime.programs.env,
        cwd=place,
        start_new_session=True,
    )
    try:
        code = processes.exit_code(child, PATIENCE)
    except subprocess.TimeoutExpired:
        raise runtime.silent("exec") from None
    if code != 0:
        raise failure("exec", _said(place), f"{runtime.program} {how_ended(code)}")


def _said(place: str) -> list[bytes]:
    """Nothing by a runtime that did not come so far."""
    try:
        with open(os.path.join(place, "log"), "rb") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
