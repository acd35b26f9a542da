"""The process behind a WireGuard interface where the kernel has none: found or started, watched, started again.

It outlives cnmd. Which process it is, the kernel says: the one that listens at the interface's control socket. A file
with a process id would be one more thing that can be wrong, and is of no use without that socket: wireguard-go ends
when its socket is deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from cnm.errors import CnmError, Conflict, NotBuilt, NotFound, Unavailable
from cnm.kernel import wireguard_uapi
from cnm.kernel.processes import await_end
from cnm.kernel.wireguard_uapi import UserspaceDevice

log = logging.getLogger("cnm.wireguard")

_START_SECONDS = 10.0
_LOOK_SECONDS = 0.005
_END_SECONDS = 3.0
_QUICK_DEATH_SECONDS = 10.0
"""After a shorter life the next start waits longer, from the first to the second of:"""
_PAUSES = (0.1, 10.0)


class WireGuardGo:
    """Of one interface, in the namespace of the threads that use it. The owner serialises all but `stop_watching`.

    `died` is called in a thread of its own when the process has ended by itself, again and again until it raises no
    CnmError; it is to bring everything back that ended with the process.
    """

    def __init__(self, name: str, program: str, died: Callable[[], None]) -> None:
        self._name = name
        self._program = program
        self._died = died
        self._process = -1
        """A pidfd."""
        self._child: subprocess.Popen[bytes] | None = None
        self._since = 0.0
        self._pause = 0.0
        self._closing = threading.Event()
        self.pid = 0
        """0: none is known to run."""

    def start(self) -> bool:
        """Take up a process that runs and answers, else start one; whether it is another than before.

        Returns when it answers. Raises NotBuilt where there is no such program, Unavailable where it does not come up,
        Conflict where the interface's name is in use in another network namespace.
        """
        if self._process >= 0 and not await_end(self._process, 0.0):
            return False
        self._forget()
        self.pid = self._adopt() or self._spawn()
        self._since = time.monotonic()
        watched = os.dup(self._process), self.pid, self._child
        threading.Thread(target=self._watch, args=watched, name=f"watch {self._name}", daemon=True).start()
        return True

    def end(self, *signals: signal.Signals) -> None:
        """End it, whoever started it, politely unless by these signals; none is fine, and one of another network
        namespace is left alone."""
        if self._process < 0:
            with contextlib.suppress(Conflict):
                self._open_ours()
        if self._process >= 0:
            process, self._process = self._process, -1
            self.pid = 0  # or its end would be taken for a death
            _end(process, *signals)
            os.close(process)
        self._forget()

    def stop_watching(self) -> None:
        """From now on nothing is started; the process serves on."""
        self._closing.set()

    def _open(self, pid: int) -> None:
        """Raises NotFound where the process has ended meanwhile."""
        try:
            self._process = os.pidfd_open(pid)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise NotFound(f"process {pid} of interface {self._name} is not there: {why}") from None

    def _open_ours(self) -> int:
        """The process that serves the interface here, 0 where there is none. Raises Conflict for one elsewhere."""
        try:
            pid = wireguard_uapi.owner(self._name)
            self._open(pid)
            if wireguard_uapi.owner(self._name) != pid:
                raise NotFound(f"process {pid} was another one when it was opened")
        except NotFound:
            self._forget()
            return 0
        namespace = _namespace(pid)
        if namespace == _namespace("thread-self"):
            return pid
        if namespace is None:  # it is about to end
            await_end(self._process, _END_SECONDS)
        self._forget()
        if namespace is None:
            return 0
        raise Conflict(
            f"WireGuard interface {self._name} belongs to process {pid} in another network namespace: end that, "
            "or give this node another name"
        )

    def _adopt(self) -> int:
        """Its process id, 0 where none can be taken up."""
        pid = self._open_ours()
        if not pid:
            return 0
        try:
            UserspaceDevice(self._name).read()
        except CnmError as error:
            log.warning("%s: process %d is replaced", error, pid)
            _end(self._process, signal.SIGKILL)
            self.end()
            return 0
        log.info("interface %s: wireguard-go %d is taken up", self._name, pid)
        return pid

    def _spawn(self) -> int:
        """The id of a new process, in a session of its own; its messages go where ours go."""
        path = shutil.which(self._program)
        if path is None:
            raise NotBuilt(f"program {self._program} is not found: install wireguard-go")
        try:
            self._child = subprocess.Popen(
                [path, self._name],
                stdin=subprocess.DEVNULL,
                stdout=2,
                env={"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"},
                start_new_session=True,
            )
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Unavailable(f"{path} cannot be started: {why}") from None
        self._open(self._child.pid)
        self._await_answer(self._child)
        log.info("interface %s: wireguard-go %d started", self._name, self._child.pid)
        return self._child.pid

    def _await_answer(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers(child.pid):
            if await_end(self._process, _LOOK_SECONDS):
                code = child.wait()
                self._forget()
                raise Unavailable(
                    f"wireguard-go for interface {self._name} ended with code {code} when it was started: "
                    "its messages say why"
                )
            if time.monotonic() > deadline:
                self.end()
                raise Unavailable(
                    f"wireguard-go for interface {self._name} does not answer: see its messages"
                )

    def _answers(self, pid: int) -> bool:
        try:
            UserspaceDevice(self._name).read()
            return wireguard_uapi.owner(self._name) == pid
        except (NotFound, Unavailable):
            return False

    def _forget(self) -> None:
        if self._process >= 0:
            os.close(self._process)
        if self._child is not None:
            self._child.poll()  # or it stays a zombie
        self._process, self._child, self.pid = -1, None, 0

    # In a thread for each process

    def _watch(self, process: int, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        try:
            await_end(process)
        finally:
            os.close(process)
        if child is not None:
            child.wait()
        if self._closing.is_set() or self.pid != pid:
            return
        log.error("interface %s: wireguard-go %d has died: another is started", self._name, pid)
        self._recover(time.monotonic() - self._since)

    def _recover(self, lifetime: float) -> None:
        shortest, longest = _PAUSES
        if lifetime > _QUICK_DEATH_SECONDS:
            self._pause = 0.0
        while not self._closing.wait(self._pause):
            self._pause = min(max(2 * self._pause, shortest), longest)
            try:
                self._died()
                return
            except CnmError as error:
                log.error("%s", error)


def _end(process: int, *signals: signal.Signals) -> None:
    """By each of these in turn, by default politely first."""
    for number in signals or (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        if await_end(process, _END_SECONDS):
            return


def _namespace(process: int | str) -> tuple[int, int] | None:
    """The network namespace that it is in; None where it has ended, or is on its way to."""
    try:
        found = os.stat(f"/proc/{process}/ns/net")
    except OSError:
        return None
    return found.st_dev, found.st_ino
