"""Health checks: a command in the container again and again, and what its exit codes say of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, NamedTuple

from cnm.errors import CnmError, NotFound
from cnm.launcher.container import Container
from cnm.launcher.entering import Entering
from cnm.launcher.failures import StartFailed
from cnm.launcher.parts import Parts
from cnm.launcher.present import moment
from cnm.wire.containers import ExecCreate, Health

log = logging.getLogger("cnm.launcher")

_INTERVAL, _TIMEOUT, _RETRIES = 30 * 10**9, 30 * 10**9, 3
"""Docker's defaults; times are nanoseconds."""
_START_INTERVAL = 5 * 10**9
_KEPT = 5
_LONGEST_OUTPUT = 4096


class Probe(NamedTuple):
    """One run; times are nanoseconds since 1970."""

    started: int
    ended: int
    exit_code: int
    output: str


class _Checked:
    """A container whose health is looked at, for one of its lives."""

    def __init__(self) -> None:
        self.status = "starting"
        self.streak = 0
        self.log: deque[Probe] = deque(maxlen=_KEPT)
        self.over = threading.Event()


def command_of(health: Health | None, shell: list[str] | None) -> list[str]:
    """What is run; nothing where health is not checked."""
    test = (health.test if health else None) or []
    if not test or test[0] == "NONE":
        return []
    if test[0] == "CMD-SHELL":
        return [*(shell or ("/bin/sh", "-c")), *test[1:]]
    return test[1:] if test[0] == "CMD" else []


class HealthChecks:
    """A thread for each container that has one. Thread-safe."""

    def __init__(self, parts: Parts, entering: Entering) -> None:
        self._p = parts
        self._entering = entering
        self._lock = threading.Lock()
        self._checked: dict[str, _Checked] = {}

    def follow(self, container: Container) -> None:
        """It has just started."""
        command = command_of(container.config.healthcheck, container.config.shell)
        with self._lock:
            if (before := self._checked.pop(container.id, None)) is not None:
                before.over.set()
            if not command:
                return
            checked = self._checked[container.id] = _Checked()
        threading.Thread(
            target=self._run, args=(container, command, checked), name="health", daemon=True
        ).start()

    def shown(self, ident: str) -> dict[str, Any] | None:
        """`State.Health` of inspect, None where it is not checked."""
        with self._lock:
            checked = self._checked.get(ident)
            if checked is None:
                return None
            return {
                "Status": checked.status,
                "FailingStreak": checked.streak,
                "Log": [
                    {
                        "Start": moment(probe.started),
                        "End": moment(probe.ended),
                        "ExitCode": probe.exit_code,
                        "Output": probe.output,
                    }
                    for probe in checked.log
                ],
            }

    def status(self, ident: str) -> str:
        """ "starting", "healthy", "unhealthy", "" where it is not checked."""
        with self._lock:
            return self._checked[ident].status if ident in self._checked else ""

    def _run(self, container: Container, command: list[str], checked: _Checked) -> None:
        health = container.config.healthcheck or Health()
        began = time.monotonic_ns()
        while not checked.over.wait(self._pause(health, checked, began) / 1e9):
            if not self._lives(container):
                break
            probe = self._probe(container, command, health)
            if probe is not None:
                in_start = time.monotonic_ns() - began < (health.start_period or 0)
                self._note(container, checked, probe, health, forgiving=in_start)
        with self._lock:
            if self._checked.get(container.id) is checked:
                del self._checked[container.id]

    def _pause(self, health: Health, checked: _Checked, began: int) -> int:
        in_start = time.monotonic_ns() - began < (health.start_period or 0)
        if in_start and checked.status == "starting":
            return health.start_interval or min(_START_INTERVAL, health.interval or _INTERVAL)
        return health.interval or _INTERVAL

    def _lives(self, container: Container) -> bool:
        try:
            state = self._p.registry.get(container.id).state
        except NotFound:
            return False
        return state.status.is_alive and state.started == container.state.started

    def _probe(self, container: Container, command: list[str], health: Health) -> Probe | None:
        """None for a container that could not be asked: it has just ended, or is frozen.

        A command that cannot be run in it is a failed probe, whose exit code is -1 (Docker's).
        """
        began = time.time_ns()
        wanted = ExecCreate(cmd=command, attach_stdout=True, attach_stderr=True)
        try:
            made = self._entering.create(self._p.registry.get(container.id), wanted)
            running = self._entering.execs.start(made.id)
        except StartFailed as error:
            return Probe(began, time.time_ns(), -1, str(error))
        except CnmError as error:
            log.debug("health of container %s: %s", container.short, error)
            return None
        self._entering.started(made)
        seconds = (health.timeout or _TIMEOUT) / 1e9
        output = self._entering.execs.collect(running, _LONGEST_OUTPUT, seconds)
        if output is None:
            self._entering.execs.kill(made.id, 9)
            text = f"Health check exceeded timeout ({seconds:g}s)"
            return Probe(began, time.time_ns(), -1, text)
        code = 1 if made.exit_code is None else made.exit_code
        return Probe(began, time.time_ns(), code, output.decode("utf-8", "replace"))

    def _note(
        self, container: Container, checked: _Checked, probe: Probe, health: Health, *, forgiving: bool
    ) -> None:
        with self._lock:
            before = checked.status
            checked.log.append(probe)
            if probe.exit_code == 0:
                checked.status, checked.streak = "healthy", 0
            elif not (forgiving and before == "starting"):
                checked.streak += 1
                if checked.streak >= (health.retries or _RETRIES):
                    checked.status = "unhealthy"
            changed = checked.status != before
        if changed:
            self._p.tell(f"health_status: {checked.status}", container)
