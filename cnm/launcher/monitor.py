"""conmon, the monitor of each container: it holds the container's streams, keeps its log, and learns its exit code.

conmon daemonises, and has nothing of ours open: a container survives whatever becomes of the launcher. What it
offers lies in the bundle: `attach` (a socket of packets: in `attach.py`), `ctl` (a FIFO), `oom` (a file that appears).

Facts of conmon 2.1.6 that matter here: it accepts one attacher at a time, and output may come in between; it writes
to attachers blocking, and sees neither output nor exit meanwhile; with standard input, any attacher's end is the
input's end, unless `--leave-stdin-open`. An attacher that could not be written to before that is the exception: conmon
lets go of it, and the input stays open (seen with strace).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from cnm.errors import Conflict
from cnm.kernel.processes import await_end, exit_code, reap
from cnm.launcher.abandoned import sweep
from cnm.launcher.runtime import Runtime, RuntimeFailed, failure

_PATIENCE = 120.0
"""Seconds for a container to be created."""
_PARTING_SECONDS = 5.0
"""For a monitor that has told of a failure to end."""
_ACCEPT_SECONDS = 1.0
_FILES = ("attach", "ctl", "winsz", "oom", "exit", "pid", ".pid", "conmon.pid", "runtime.log", "monitor.log")
"""runc refuses to make a pid file whose draft (".pid") was left by one that was killed."""


class Created(NamedTuple):
    """Process ids: the container's first process, and its monitor."""

    pid: int
    monitor_pid: int


class Monitor:
    """Makes monitors whose exit files are in the folder `exits`."""

    def __init__(self, runtime: Runtime, exits: str) -> None:
        self._runtime, self._exits = runtime, exits

    def create(
        self,
        container: str,
        bundle: str,
        *,
        tty: bool,
        stdin: bool,
        stdin_once: bool = False,
        log: str = "",
        log_size: int = 0,
        runtime: Runtime | None = None,
        placed: Callable[[int], None] | None = None,
    ) -> Created:
        """Create the container of `bundle`/config.json, up to its start. `log` "" keeps none; one
        of more than `log_size` bytes (0: of any size) is begun anew.

        `stdin_once`: the standard input ends with the first attacher's, unless it is a terminal. `placed` is called
        with the monitor's process before that does anything: whoever puts it into a cgroup puts the container's
        monitor there. Nothing is left of a failure. Raises RuntimeFailed.
        """
        runtime = runtime or self._runtime
        os.makedirs(self._exits, mode=0o700, exist_ok=True)
        _clear([*(os.path.join(bundle, name) for name in _FILES), self._exit_file(container)])
        options = ["--bundle", bundle, "--log-path", f"k8s-file:{log}" if log else "none:"]
        options += ["--log-size-max", str(log_size)] if log_size else []
        options += ["--terminal"] if tty else []
        options += ["--stdin"] if stdin else []
        options += ["--leave-stdin-open"] if stdin and (tty or not stdin_once) else []
        told = self._start(container, bundle, options, runtime, placed)
        monitor_pid = _number(os.path.join(bundle, "conmon.pid"))
        try:
            return Created(_pid(told or b"", bundle, _silence(runtime.program, told)), monitor_pid)
        except RuntimeFailed:
            _await_end(monitor_pid, _PARTING_SECONDS if told else 0.0)
            with suppress(RuntimeFailed):  # it may be what failed: the sweep leaves nothing to it
                runtime.delete(container, force=True)
            sweep(runtime.root, container, _cgroup(bundle), monitor_pid)
            raise

    def exit_code(self, container: str) -> int | None:
        """Of a container that has ended, None while it has not, or where its monitor was killed."""
        try:
            with open(self._exit_file(container)) as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return None

    def forget(self, container: str) -> None:
        """Remove the exit file."""
        _clear([self._exit_file(container)])

    def _exit_file(self, container: str) -> str:
        return os.path.join(self._exits, container)

    def _start(
        self,
        container: str,
        bundle: str,
        options: list[str],
        runtime: Runtime,
        placed: Callable[[int], None] | None,
    ) -> bytes | None:
        """Run conmon until it has told how the creation went: the line that it told, b"" for none, None for no end."""
        told, tell = os.pipe2(os.O_CLOEXEC)
        begin, let = os.pipe2(os.O_CLOEXEC)
        try:
            with open(os.path.join(bundle, "monitor.log"), "wb") as log:
                child = subprocess.Popen(
                    self._command(container, bundle, options, runtime),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env={**runtime.programs.env, "_OCI_SYNCPIPE": str(tell), "_OCI_STARTPIPE": str(begin)},
                    pass_fds=(tell, begin),
                    cwd=bundle,  # `oom` is made where it runs
                    start_new_session=True,
                )
            os.close(tell)
            tell = -1
            try:
                if placed:
                    placed(child.pid)
                os.write(let, b"\0")
            except BaseException:
                child.kill()
                raise
            finally:
                _await_parting(child)
            return _line(told)
        finally:
            for descriptor in (told, tell, begin, let):
                if descriptor >= 0:
                    os.close(descriptor)

    def _command(self, container: str, bundle: str, options: list[str], runtime: Runtime) -> list[str]:
        command = [runtime.programs.path("conmon"), "--cid", container, "--cuuid", container]
        program, *before = runtime.beginning()
        command += ["--runtime", program, "--exit-dir", self._exits, "--persist-dir", bundle]
        command += ["--container-pidfile", os.path.join(bundle, "pid")]
        command += ["--conmon-pidfile", os.path.join(bundle, "conmon.pid")]
        command += ["--full-attach", "--no-sync-log", "--log-level", "error", *options]
        for argument in (*before, "--root", runtime.root, "--log-format", "json"):
            command += ["--runtime-arg", argument]
        return [*command, "--runtime-arg", "--log", "--runtime-arg", os.path.join(bundle, "runtime.log")]


def connect(bundle: str) -> socket.socket:
    """A connection to the streams of the container of `bundle`. Raises Conflict where it has no monitor any more.

    It has been accepted: whoever connects before the start loses nothing.
    """
    attached = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monitor_pid = _number(os.path.join(bundle, "conmon.pid"))
    try:
        folder = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # so that the socket which conmon has more is this one
            sockets = _sockets(monitor_pid)
            attached.connect(f"/proc/self/fd/{folder}/attach")  # whatever the length of the bundle's path
            _await_more(sockets, monitor_pid)
        finally:
            os.close(folder)
    except OSError as error:
        attached.close()
        raise Conflict(f"the container's streams cannot be reached: {_reason(error)}") from None
    return attached


def _await_more(sockets: int, monitor_pid: int) -> None:
    """Only its open sockets tell that conmon has accepted. One that is held up, or loses another, is let be."""
    deadline = time.monotonic() + _ACCEPT_SECONDS
    while _sockets(monitor_pid) <= sockets and time.monotonic() < deadline:
        time.sleep(0.0005)


def _sockets(pid: int) -> int:
    return sum(opened.startswith("socket:") for opened in _open_files(pid))


def _open_files(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError):
        return [_opened(f"{folder}/{name}") for name in os.listdir(folder)]
    return []


def _opened(path: str) -> str:
    """What an entry of /proc/PID/fd is, as "pipe:[5]"; "" where it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return os.readlink(path)
    return ""


class Input:
    """The pipe by which a monitor gives a process its standard input."""

    def __init__(self, bundle: str, pid: int) -> None:
        """`pid` is the container's first process; the pipe is what it has as its standard input now."""
        self._monitor_pid = _number(os.path.join(bundle, "conmon.pid"))
        self._pipe = _opened(f"/proc/{pid}/fd/0")

    def is_open(self) -> bool:
        """Whether the monitor holds its end still; False where the process reads something else."""
        return self._pipe.startswith("pipe:") and self._pipe in _open_files(self._monitor_pid)


def resize(bundle: str, rows: int, columns: int) -> None:
    """Change the size of the terminal of the container of `bundle`. Raises Conflict where nobody reads of it."""
    try:
        control = os.open(os.path.join(bundle, "ctl"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(control, b"1 %d %d\n" % (rows, columns))
        finally:
            os.close(control)
    except OSError as error:
        raise Conflict(f"the container's terminal cannot be resized: {_reason(error)}") from None


def was_out_of_memory(bundle: str) -> bool:
    """Whether the kernel has killed a process of the container for want of memory, since it was created."""
    return os.path.exists(os.path.join(bundle, "oom"))


def _await_parting(child: subprocess.Popen[bytes]) -> None:
    """conmon goes on in a process of its own, soon."""
    with suppress(subprocess.TimeoutExpired):
        exit_code(child, _PATIENCE)


def _line(told: int) -> bytes | None:
    """What comes up to a newline or the end; None where it takes too long."""
    poll = select.poll()
    poll.register(told, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE
    line = b""
    while b"\n" not in line:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            return None
        piece = os.read(told, 65536)
        if not piece:
            break
        line += piece
    return line


def _silence(program: str, told: bytes | None) -> str:
    """What is said of a failure that nobody gives a reason for."""
    if told is None:
        return f"{program} gave no answer for {_PATIENCE:.0f} s"
    return f"{program} failed without a word" if told else "conmon ended without a word"


def _pid(told: bytes, bundle: str, silence: str) -> int:
    try:
        answer = json.loads(told)
        pid, said = int(answer["pid"]), str(answer.get("message", ""))
    except (ValueError, KeyError, TypeError):
        pid, said = -1, ""
    if pid > 0:
        return pid
    logs = (_lines(os.path.join(bundle, name)) for name in ("runtime.log", "monitor.log"))
    raise failure("create", next(filter(None, logs), []), said.strip() or silence)


def _cgroup(bundle: str) -> str:
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            return str(json.loads(file.read())["linux"]["cgroupsPath"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _await_end(monitor_pid: int, seconds: float) -> None:
    """A monitor without a container ends by itself; one that does not within the time is killed."""
    if not monitor_pid:
        return
    with suppress(ProcessLookupError):
        process = os.pidfd_open(monitor_pid)
        try:
            if not await_end(process, seconds):
                os.kill(monitor_pid, 9)
                await_end(process)
            reap(process)
        finally:
            os.close(process)


def _number(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return 0


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _clear(paths: list[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
