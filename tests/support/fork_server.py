"""A process that has the daemons' modules and forks itself into daemons, so that a start costs no start of Python.

Run as `python -m tests.support.fork_server DESCRIPTOR`: a socket on which each message is a `Job` with descriptors.
The server has one thread, ends when the other end of that socket is closed, and leaves its children running then.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from netns_fixtures import syscalls
from tests.support.process_title import set_arguments

PROGRAMS = {
    "cnm.daemon": "cnm.daemon",
    "cnm.launcher.daemon": "cnm.launcher.daemon",
    "cnm.cli": "cnm.cli.main",
}
"""What a child can become, as `python -m` knows it, and the module whose `main` returns its exit code."""
_LATER = ("cnm.membership", "cnm.cluster", "cnm.cli")
"""Packages of which the daemons import modules only when a cluster is made, the command line those of a verb."""
_MOST_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Job(msgspec.Struct, frozen=True):
    """What a child is to become, with seven descriptors beside it, see `Descriptors`."""

    command: tuple[bytes, ...]
    """The interpreter, -m, the module and its arguments."""
    env: Mapping[bytes, bytes]
    new_session: bool


class Descriptors(NamedTuple):
    """Of the namespaces and files that a child gets; on `report` its pid and its end are told."""

    report: int
    network: int
    mounts: int
    directory: int
    stdin: int
    stdout: int
    stderr: int


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first of a child: its `pid`, or the `error` it died of before it began; the last: its wait `status`."""

    pid: int = 0
    error: str = ""
    status: int = 0


class _Server:
    """Forks until the other end of `control` closes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._reports: dict[int, int] = {}
        """By pid of the child."""

    def serve(self) -> Job | None:
        """None when all is over, and in a child what it is to become."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the tests and for the children
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken in ready:
                self._reap()
            if self._control.fileno() in ready:
                message, given, _, _ = socket.recv_fds(self._control, _MOST_BYTES, len(Descriptors._fields))
                if not message:
                    return None
                if job := self._forked(msgspec.msgpack.decode(message, type=Job), Descriptors(*given)):
                    return job

    def _forked(self, job: Job, given: Descriptors) -> Job | None:
        """The job in the child, None in the server."""
        try:
            pid = os.fork()
        except OSError as error:
            _tell(given.report, Report(error=f"fork: {error}"))
            for descriptor in given:
                os.close(descriptor)
            return None
        if pid == 0:
            self._become(job, given)
            return job
        self._reports[pid] = given.report
        for descriptor in given[1:]:
            os.close(descriptor)
        return None

    def _reap(self) -> None:
        """At once, so that nobody takes a child that has ended for one that runs."""
        with suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                continue
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                report = self._reports.pop(pid)
                _tell(report, Report(pid=pid, status=status))
                os.close(report)

    def _become(self, job: Job, given: Descriptors) -> None:
        """The child's part: nothing of the server is left to it but what is imported."""
        try:
            self._forget()
            if job.new_session:
                os.setsid()
            enter(given.mounts)
            enter(given.network)
            os.fchdir(given.directory)
            for number, descriptor in enumerate(given[-3:]):
                os.dup2(descriptor, number)
            os.environ.clear()
            os.environb.update(job.env)
            time.tzset()
            set_arguments(job.command)
        except OSError as error:
            _tell(given.report, Report(error=str(error)))
            os._exit(1)
        _tell(given.report, Report(pid=os.getpid()))
        for descriptor in given:
            os.close(descriptor)

    def _forget(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._control.close()
        for descriptor in (self._woken, self._wake, *self._reports.values()):
            os.close(descriptor)


def _tell(descriptor: int, report: Report) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked has ended
        os.write(descriptor, msgspec.msgpack.encode(report))


def enter(namespace: int) -> None:
    """Move this process, which has one thread, into the namespace behind a descriptor (setns(2))."""
    if _libc.setns(namespace, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _leave_the_asker() -> None:
    """The thread that started this may be in a test's namespace, which is to vanish while the server lives."""
    mounts = os.open(f"/proc/{os.getppid()}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    enter(mounts)
    os.close(mounts)
    syscalls.unshare(syscalls.CLONE_NEWNET)


def _import_all() -> None:
    for name in PROGRAMS.values():
        import_module(name)
    for package in _LATER:
        for place in Path(str(import_module(package).__file__)).parent.glob("*.py"):
            if place.stem not in ("__init__", "__main__"):
                import_module(f"{package}.{place.stem}")
    for point in entry_points(group="cnm.drivers"):
        point.load()
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"an import has started threads, which a fork would lose: {threads}"


def _run(job: Job) -> NoReturn:
    """As `python -m` runs the module, and ends, but for the clearing of all modules: that would copy their memory.

    What it raises ends the process as it ends any.
    """
    _interpreter, _, program, *arguments = map(os.fsdecode, job.command)
    module = import_module(PROGRAMS.get(program, program))
    sys.argv[:] = [str(module.__file__), *arguments]
    sys.path[0] = os.getcwd()
    try:
        code = module.main()
    except SystemExit as end:
        code = end.code
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


def main(arguments: Sequence[str]) -> None:
    """Serves; in a child this does not return."""
    _leave_the_asker()
    _import_all()
    gc.collect()
    gc.freeze()
    if job := _Server(socket.socket(fileno=int(arguments[0]))).serve():
        _run(job)


if __name__ == "__main__":
    main(sys.argv[1:])
