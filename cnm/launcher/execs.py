"""Execs: further processes in running containers, made by `runc exec`, their streams and their records.

runc leaves the process behind once it has started (`--detach`), as in Docker: no runc stays for as long as the process
runs, its exit code is its own whatever its children hold open, and its terminal is ours. `exits.py` adopts it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple

from cnm.errors import CnmError, Conflict, NotFound
from cnm.launcher import exits
from cnm.launcher.attach import Ended, Wish, detach_keys, frame, relay
from cnm.launcher.exec_start import begin
from cnm.launcher.exits import Exits
from cnm.launcher.failures import exec_refused
from cnm.launcher.runtime import Runtime, RuntimeFailed
from cnm.launcher.streams import Stream, Streams, TerminalStreams, drain
from cnm.wire.containers import ExecCreate

NOT_STARTED = 126
"""Exit code of what could not be run, unless something is not there: then 127 (dockerd 20.10 has 126 there, too)."""

_KEPT_SECONDS = 300.0
"""For which an exec that has ended is remembered; Docker's time."""
_START_SECONDS = 10.0
"""For which a change of the terminal's size waits for the terminal; Docker's time."""


class Stage(Enum):
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class Exec:
    """One exec. `wanted` is what was asked for, `process` the OCI process that it becomes."""

    def __init__(
        self, container: str, wanted: ExecCreate, process: Mapping[str, Any], runtime: Runtime
    ) -> None:
        self.id = secrets.token_hex(32)
        self.container, self.wanted, self.process, self.runtime = container, wanted, process, runtime
        self.stage = Stage.CREATED
        self.pid = self.begun = 0
        self.exit_code: int | None = None
        self.begun_or_failed = threading.Event()
        self.ended = threading.Event()
        self.ended_at = 0.0
        self.terminal: TerminalStreams | None = None


class Running(NamedTuple):
    """A started exec, and our ends of its streams."""

    exec: Exec
    streams: Streams


def process(
    container: Mapping[str, Any],
    wanted: ExecCreate,
    user: Mapping[str, Any] | None = None,
    privileged: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The OCI process of an exec, from the `process` of its container's config.json, as dockerd makes it.

    `user` is the OCI user {uid, gid, additionalGids}, None for the container's; `privileged` are the capabilities
    that `--privileged` gives here.
    """
    tty = bool(wanted.tty)
    made = {**container, "args": list(wanted.cmd or ()), "terminal": tty}
    made["env"] = _environment(container.get("env") or (), wanted.env or (), tty)
    made["cwd"] = wanted.working_dir or container.get("cwd") or "/"
    made.pop("consoleSize", None)
    if user is not None:
        made["user"] = dict(user)
    if wanted.privileged:
        made["capabilities"] = {name: list(privileged) for name in ("bounding", "effective", "permitted")}
    return made


def _environment(container: Any, wanted: Any, tty: bool) -> list[str]:
    """Later entries replace earlier ones of their name; one without "=" removes it, as in dockerd."""
    has_term = any(entry.startswith("TERM=") for entry in container)
    terminal = ["TERM=xterm"] if tty and not has_term else []
    merged: dict[str, str] = {}
    for entry in (*container, *terminal, *wanted):
        name, has_value, _ = entry.partition("=")
        if has_value:
            merged[name] = entry
        else:
            merged.pop(name, None)
    return list(merged.values())


class Execs:
    """All execs, by id. `folder` is for what runc is told, and short-lived. Thread-safe."""

    def __init__(
        self,
        watcher: Exits,
        folder: str,
        ended: Callable[[Exec], None] = lambda _exec: None,
    ) -> None:
        """`ended` is called when a started exec has ended: briefly, in the thread of `watcher`."""
        self._exits, self._folder, self._on_end = watcher, folder, ended
        self._lock = threading.Lock()
        self._execs: dict[str, Exec] = {}
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def create(
        self, container: str, wanted: ExecCreate, process: Mapping[str, Any], runtime: Runtime
    ) -> Exec:
        """Remember an exec of a running container; `process` as the function of that name makes it."""
        detach_keys(wanted.detach_keys or "")
        made = Exec(container, wanted, process, runtime)
        with self._lock:
            self._forget_old_locked()
            self._execs[made.id] = made
        return made

    def find(self, reference: str) -> Exec:
        """Raises NotFound."""
        with self._lock:
            found = self._execs.get(reference)
        if found is None:
            raise NotFound(f"No such exec instance: {reference}")
        return found

    def of(self, container: str) -> list[Exec]:
        """Those that have not ended."""
        with self._lock:
            return [
                e for e in self._execs.values() if e.container == container and e.stage is not Stage.ENDED
            ]

    def forget(self, container: str) -> None:
        """The container is removed."""
        with self._lock:
            self._execs = {key: e for key, e in self._execs.items() if e.container != container}

    def start(self, reference: str, *, detach: bool = False, size: tuple[int, int] | None = None) -> Running:
        """Start the process; `size` is rows and columns of its terminal. Detached, its output goes nowhere.

        Raises NotFound, Conflict where it was started before, InvalidParameter for what cannot be run, RuntimeFailed.
        """
        found = self.find(reference)
        self._claim(found)
        try:
            return self._launch(found, detach, size or _size(found.wanted.console_size))
        except RuntimeFailed as error:
            self._end(found, error.process_exit_code or NOT_STARTED)
            raise exec_refused(error) from None
        except BaseException:
            self._end(found, NOT_STARTED)
            raise

    def attach(
        self,
        reference: str,
        client: socket.socket,
        early: bytes,
        *,
        size: tuple[int, int] | None = None,
        started: Callable[[Exec], None] = lambda _exec: None,
    ) -> Ended | None:
        """Start the process and relay until one side ends; None where it did not start: the client was told why.

        The process outlives its client, unheard. `started` is called in between. The connection stays open.
        """
        try:
            running = self.start(reference, size=size)
        except CnmError as error:
            with suppress(OSError):
                client.sendall(self._told(reference, error))
            return None
        started(running.exec)
        ended = Ended.CLIENT
        try:
            ended = relay(client, early, running.streams, _wish(running.exec.wanted))
        finally:
            self._leave(running, ended)
        return ended

    def collect(self, running: Running, limit: int, seconds: float) -> bytes | None:
        """The first `limit` bytes of all output, once the process has ended; None where it takes longer."""
        said = bytearray()

        def keep(content: bytes) -> None:
            said.extend(content[: limit - len(said)])

        try:
            in_time = drain(running.streams, keep, seconds) and running.exec.ended.wait(seconds)
        finally:
            self._leave(running, Ended.CLIENT)
        return bytes(said) if in_time else None

    def kill(self, reference: str, number: int) -> None:
        """Send a signal to the process; nothing where it has ended."""
        found = self.find(reference)
        if found.stage is Stage.RUNNING:
            exits.kill(found.pid, number, found.begun)

    def resize(self, reference: str, rows: int, columns: int) -> None:
        """Waits for a process that is being started, as dockerd does: clients tell the size while it is.

        Raises NotFound, Conflict where it does not run, or has no terminal.
        """
        found = self.find(reference)
        if not found.begun_or_failed.wait(_START_SECONDS):
            raise Conflict("timeout waiting for exec session ready")
        with self._lock:
            if found.terminal is None:
                raise Conflict("cannot resize a stopped container: unknown")
            found.terminal.resize(rows, columns)

    def inspect(self, reference: str) -> dict[str, Any]:
        """Docker's record."""
        found = self.find(reference)
        wanted, command = found.wanted, found.wanted.cmd or [""]
        config: dict[str, Any] = {"tty": bool(wanted.tty), "entrypoint": command[0], "arguments": command[1:]}
        config["privileged"] = bool(wanted.privileged)
        if wanted.user:
            config["user"] = wanted.user
        return {
            "ID": found.id,
            "Running": found.stage is Stage.RUNNING,
            "ExitCode": found.exit_code,
            "ProcessConfig": config,
            "OpenStdin": bool(wanted.attach_stdin),
            "OpenStderr": bool(wanted.attach_stderr),
            "OpenStdout": bool(wanted.attach_stdout),
            "CanRemove": False,
            "ContainerID": found.container,
            "DetachKeys": wanted.detach_keys or "",
            "Pid": found.pid,
        }

    def _claim(self, found: Exec) -> None:
        with self._lock:
            if found.stage is Stage.ENDED:
                raise Conflict(f"Error: Exec command {found.id} has already run")
            if found.stage is not Stage.CREATED:
                raise Conflict(f"Error: Exec command {found.id} is already running")
            found.stage = Stage.STARTING

    def _launch(self, found: Exec, detach: bool, size: tuple[int, int] | None) -> Running:
        sized = {"consoleSize": {"height": size[0], "width": size[1]}} if size and found.wanted.tty else {}
        begun = begin(
            found.runtime,
            found.container,
            {**found.process, **sized},
            attached=(not detach and bool(asked) for asked in _asked(found.wanted)),
            folder=self._folder,
        )
        found.pid, found.begun = begun.pid, begun.at
        if isinstance(begun.streams, TerminalStreams):
            found.terminal = begun.streams
        found.stage = Stage.RUNNING
        found.begun_or_failed.set()
        try:
            self._exits.on_end(found.pid, lambda code: self._ended(found, code))
        except OSError:  # out of descriptors
            exits.kill(found.pid, signal.SIGKILL, found.begun)
            self._close(Running(found, begun.streams))
            raise
        running = Running(found, begun.streams)
        if detach:
            self._leave(running, Ended.DETACHED)
        return running

    def _ended(self, found: Exec, code: int | None) -> None:
        self._end(found, NOT_STARTED if code is None else code)
        self._on_end(found)

    def _end(self, found: Exec, code: int) -> None:
        with self._lock:
            found.exit_code, found.stage, found.ended_at = code, Stage.ENDED, time.monotonic()
        found.begun_or_failed.set()
        found.ended.set()

    def _told(self, reference: str, error: CnmError) -> bytes:
        """What dockerd says in the stream, since its answer's head has gone out already."""
        text = f"{error}\r\n".encode()
        with self._lock:
            found = self._execs.get(reference)
        return text if found and found.wanted.tty else frame(Stream.STDOUT, text)

    def _leave(self, running: Running, ended: Ended) -> None:
        """Nobody hears the process any more. Its record is complete where it has ended."""
        if ended is Ended.OUTPUT and running.exec.ended.wait(running.streams.linger):
            self._close(running)
            return
        if not running.exec.wanted.tty:
            running.streams.close_input()
        threading.Thread(target=self._unheard, args=(running,), name="exec-unheard", daemon=True).start()

    def _unheard(self, running: Running) -> None:
        """The process shall not be stopped by output that nobody takes."""
        drain(running.streams)
        self._close(running)

    def _close(self, running: Running) -> None:
        with self._lock:
            running.exec.terminal = None
        running.streams.close()

    def _forget_old_locked(self) -> None:
        since = time.monotonic() - _KEPT_SECONDS
        old = [key for key, e in self._execs.items() if e.stage is Stage.ENDED and e.ended_at < since]
        for key in old:
            del self._execs[key]


def _asked(wanted: ExecCreate) -> tuple[bool | None, ...]:
    return wanted.attach_stdin, wanted.attach_stdout, wanted.attach_stderr


def _wish(wanted: ExecCreate) -> Wish:
    return Wish(
        tty=bool(wanted.tty),
        stdin=bool(wanted.attach_stdin),
        stdout=bool(wanted.attach_stdout),
        stderr=bool(wanted.attach_stderr),
        detach_keys=detach_keys(wanted.detach_keys or ""),
    )


def _size(given: list[int] | None) -> tuple[int, int] | None:
    """Rows and columns; none where a client says that it does not know them."""
    return (given[0], given[1]) if given and len(given) == 2 and all(given) else None
