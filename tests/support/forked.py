"""Daemons that are forks of a process which has their modules: see `fork_server`, of which each process has one."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from netns_fixtures import syscalls
from tests.support.fork_server import PROGRAMS, Job, Report
from tests.support.process_title import ROOM

_CHECKOUT = Path(__file__).parents[2]
_ENVIRONMENT = dict(os.environ)
"""Of the server, whichever test is the first to ask for it."""
_START_SECONDS = 60.0
_GRACE_SECONDS = 3.0
_REPORT_BYTES = 4096
_THREAD_MOUNTS = "/proc/thread-self/ns/mnt"

File = int | IO[Any] | None
"""As subprocess.Popen takes one, without PIPE."""


class ForkServer:
    """The server of this process."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno()), ROOM],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=_CHECKOUT,
                env=_ENVIRONMENT,
            )

    def ask(self, job: Job, descriptors: Sequence[int]) -> None:
        """From any thread: a message goes as a whole. Raises OSError where the server has ended."""
        socket.send_fds(self._socket, [msgspec.msgpack.encode(job)], descriptors)

    def close(self) -> None:
        """It ends, its children do not."""
        self._socket.close()
        self.process.wait()


_lock = threading.Lock()
_server: ForkServer | None = None


def fork_server() -> ForkServer:
    """This process's, started when it is first asked for."""
    global _server
    with _lock:
        if _server is None:
            _server = ForkServer()
        return _server


def end_fork_server() -> None:
    """Harmless where there is none."""
    global _server
    with _lock:
        if _server is not None:
            _server.close()
        _server = None


class Forked:
    """What subprocess.Popen is for `[PYTHON, "-m", module, …]`, as far as tests use it; a child of the server.

    It is in the namespaces of the thread that makes it, or in the mount namespace of a file `mounts`, where it begins
    in the root directory. Raises OSError where it cannot begin.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
        mounts: str = "",
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self._report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._leads = start_new_session
        given_env = os.environ if env is None else env
        job = Job(
            tuple(map(os.fsencode, command)),
            {os.fsencode(key): os.fsencode(value) for key, value in given_env.items()},
            start_new_session,
        )
        with ExitStack() as opened:
            opened.callback(report.close)

            def given(path: str, flags: int = os.O_RDONLY) -> int:
                descriptor = os.open(path, flags | os.O_CLOEXEC)
                opened.callback(os.close, descriptor)
                return descriptor

            def stream(file: File, inherited: int) -> int:
                if file == subprocess.DEVNULL:
                    return given(os.devnull, os.O_RDWR)
                return inherited if file is None else file if isinstance(file, int) else file.fileno()

            out = stream(stdout, 1)
            places = (
                given(syscalls.THREAD_NETNS),
                given(mounts or _THREAD_MOUNTS),
                given("/" if mounts else "."),
            )
            streams = stream(stdin, 0), out, out if stderr == subprocess.STDOUT else stream(stderr, 2)
            fork_server().ask(job, (report.fileno(), *places, *streams))
        self.pid = self._begin()

    def _begin(self) -> int:
        if not _readable(self._report, _START_SECONDS):
            raise TimeoutError("the fork server does not fork")
        first = self._heard()
        if first.error or first.status:
            raise OSError(
                f"{self.args}: {first.error or f'ended with status {first.status} before it began'}"
            )
        return first.pid

    def _heard(self) -> Report:
        if not (message := self._report.recv(_REPORT_BYTES)):
            raise RuntimeError(f"the fork server ended, and nobody knows of {self.args}")
        return msgspec.msgpack.decode(message, type=Report)

    def poll(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        with self._lock:
            if self.returncode is None and _readable(self._report, 0):
                self.returncode = os.waitstatus_to_exitcode(self._heard().status)
                self._report.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once there is one. Raises subprocess.TimeoutExpired after so many seconds.

        By one thread at a time.
        """
        if self.returncode is None and not _readable(self._report, timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.poll() is not None

    def close(self) -> None:
        """Ask it to end, and its process group if it leads one, wait, insist."""
        if self.poll() is None:
            self._signal_all(signal.SIGTERM)
            try:
                self.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal_all(signal.SIGKILL)
                self.wait()

    def _signal_all(self, number: int) -> None:
        with suppress(ProcessLookupError):
            (os.killpg if self._leads else os.kill)(self.pid, number)


def run(command: Sequence[str], *, given: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """As subprocess.run with captured output; the files that it writes to are no pipes."""
    with _memory("stdin") as stdin, _memory("stdout") as stdout, _memory("stderr") as stderr:
        stdin.write(given)
        stdin.seek(0)
        process = Forked(command, stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())


def _memory(name: str) -> io.TextIOWrapper:
    return open(os.memfd_create(name), "w+", encoding="utf-8")


def _readable(end: socket.socket, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def can_be_forked(command: Sequence[str], env: Mapping[str, str] | None) -> bool:
    """Whether a fork would be what a start is: of this interpreter, and nothing that acts upon its start differs.

    Such is libfaketime in LD_PRELOAD. What remains: forks of one server share its seed of hashes.
    """
    head = list(command[:2]) == [sys.executable, "-m"] and command[2] in PROGRAMS
    return head and _at_start(os.environ if env is None else env) == _at_start(_ENVIRONMENT)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    """What the loader and the interpreter read of the environment before the first line of a program."""
    return {
        key: value for key, value in env.items() if key.startswith(("LD_", "PYTHON", "LC_", "LANG", "GLIBC_"))
    }
