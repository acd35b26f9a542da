"""How a container's life ends because somebody wants it to: stop, kill, restart.

The rules are Docker's (daemon/stop.go, kill.go and restart.go of 20.10).
"""

from __future__ import annotations

import contextlib
import signal as signals
from collections.abc import Callable

from cnm.errors import Conflict, NotFound
from cnm.launcher.container import Container, Status
from cnm.launcher.ending import Ender
from cnm.launcher.failures import check_alive, said_of, while_it_runs
from cnm.launcher.parts import Parts
from cnm.launcher.signals import signal_number

_STOP_SECONDS = 10
_KILL_SECONDS = 10.0
"""For the kernel to end what was killed."""
_FOR_EVER = 3.0e7


class Stopper:
    """Thread-safe."""

    def __init__(self, parts: Parts, ender: Ender, run: Callable[[str], bool]) -> None:
        """`run` starts a container, by its id."""
        self._p = parts
        self._registry = parts.registry
        self._ender = ender
        self._run = run

    def stop(self, reference: str, seconds: int | None = None, signal: str = "") -> bool:
        """Asked, then killed after `seconds` (-1: never); False where it does not run."""
        with self._registry.locked(reference) as container:
            if container.state.status is Status.RESTARTING:
                self._starts_no_more(container)
                return True
            if not container.state.status.is_alive:
                return False
            if seconds is None:
                given = container.config.stop_timeout
                seconds = _STOP_SECONDS if given is None else given
            number = signal_number(signal or container.config.stop_signal or "SIGTERM")
            ends = self._registry.ends(container.id)
            container = self._registry.note_state(container, stopped_by_user=True)
            with contextlib.suppress(Conflict):
                self._signal(container, number, thaws=True)
        if not self._await_end(container.id, ends, _FOR_EVER if seconds < 0 else float(seconds)):
            with contextlib.suppress(NotFound), self._registry.locked(container.id) as again:
                self.killed(again)
        self._p.tell("stop", container)
        return True

    def _starts_no_more(self, container: Container) -> Container:
        self._ender.restarts.cancel(container.id)
        return self._registry.note_state(container, status=Status.EXITED, stopped_by_user=True)

    def _await_end(self, ident: str, ends: int, seconds: float) -> bool:
        return self._registry.wait(
            lambda: not self._registry.is_there(ident) or self._registry.ends(ident) != ends, seconds
        )

    def killed(self, container: Container) -> Container:
        """Its processes are gone when this returns, and what they had; so is the container, if it removes itself.

        Under its lock.
        """
        if container.state.status is Status.RESTARTING:
            return self._starts_no_more(container)
        if not container.state.status.is_alive:
            return container
        container = self._registry.note_state(container, stopped_by_user=True)
        with contextlib.suppress(Conflict):
            self._signal(container, signals.SIGKILL)
        self._ender.settle_now(container, _KILL_SECONDS)
        return self._registry.last(container)

    def _signal(self, container: Container, number: int, *, thaws: bool = False) -> None:
        """One that is paused gets the signal when it goes on: at once, if that is to end it, or with `thaws`.

        Raises Conflict where it has just ended by itself.
        """
        runtime = self._p.runtime(container)
        is_paused = container.state.status is Status.PAUSED
        with while_it_runs(container):
            if is_paused and number == signals.SIGKILL:
                runtime.resume(container.id)
            runtime.kill(container.id, number)
            self._p.tell("kill", container, signal=str(number))
            if is_paused and thaws and number != signals.SIGKILL:
                runtime.resume(container.id)
                self._p.tell("unpause", self._registry.note_state(container, status=Status.RUNNING))

    def kill(self, reference: str, signal: str = "") -> None:
        with said_of("cannot kill container", reference):
            self._kill(reference, signal_number(signal or "SIGKILL"))

    def _kill(self, reference: str, number: int) -> None:
        with self._registry.locked(reference) as container:
            check_alive(container)
            is_last = _is_to_be_the_last(container, number)
            if is_last:
                container = self._registry.note_state(container, stopped_by_user=True)
            ends = self._registry.ends(container.id)
            self._signal(container, number, thaws=is_last)
        if number == signals.SIGKILL:
            self._await_end(container.id, ends, _KILL_SECONDS)

    def restart(self, reference: str, seconds: int | None = None, signal: str = "") -> None:
        ident = self._registry.find(reference).id
        with said_of("Cannot restart container", reference):
            with self._ender.kept(ident):
                self.stop(ident, seconds, signal)
            self._run(ident)
        self._p.tell("restart", self._registry.get(ident))


def _is_to_be_the_last(container: Container, number: int) -> bool:
    """Whether no policy starts it again if it ends by this signal: any, where it names none that stops it."""
    named = container.config.stop_signal
    return not named or number in (signals.SIGKILL, signal_number(named))
