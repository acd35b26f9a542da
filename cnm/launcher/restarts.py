"""Restart policies: whether a container that ended starts again, and when."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from cnm.errors import CnmError, NotFound
from cnm.launcher.container import Container, Status
from cnm.launcher.parts import Parts
from cnm.launcher.starting import Starter
from cnm.wire.containers import RestartPolicy

log = logging.getLogger("cnm.launcher")

_FIRST_SECONDS, _LONGEST_SECONDS = 0.1, 60.0
"""Docker's: doubled at each restart, and from the beginning for one that ran for long."""
_LONG_NANOSECONDS = 10 * 10**9


def wants_restart(container: Container) -> bool:
    """Whether its policy starts it again after this end."""
    policy, state = container.host.restart_policy or RestartPolicy(), container.state
    if state.stopped_by_user:
        return False
    if policy.name == "on-failure":
        most = policy.maximum_retry_count or 0
        return state.exit_code != 0 and (not most or state.restart_count < most)
    return policy.name in ("always", "unless-stopped")


def wants_start(container: Container) -> bool:
    """Whether one that does not run is started with the launcher: Docker's rule, for those that have run before."""
    policy = container.host.restart_policy or RestartPolicy()
    return bool(container.state.started) and (policy.name == "always" or wants_restart(container))


class Restarts:
    """Thread-safe; `after` and `cancel` under the container's lock."""

    def __init__(self, parts: Parts, starter: Starter, watch: Callable[[Container], None]) -> None:
        """`watch` is called with each that runs again."""
        self._p = parts
        self._starter = starter
        self._watch = watch
        self._pauses: dict[str, float] = {}
        self._timers: dict[str, threading.Timer] = {}

    def after(self, ended: Container) -> None:
        """It has ended: start it again after a while, if that is its policy."""
        if not wants_restart(ended):
            self.cancel(ended.id)
            return
        lived = ended.state.finished - ended.state.started
        pause = _FIRST_SECONDS if lived > _LONG_NANOSECONDS else self._pauses.get(ended.id, _FIRST_SECONDS)
        self._pauses[ended.id] = min(2 * pause, _LONGEST_SECONDS)
        self._p.registry.note_state(ended, status=Status.RESTARTING)
        timer = threading.Timer(pause, self._again, (ended.id,))
        timer.daemon = True
        self._timers[ended.id] = timer
        timer.start()

    def cancel(self, ident: str) -> None:
        """It does not start by itself any more."""
        self._pauses.pop(ident, None)
        timer = self._timers.pop(ident, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        for timer in list(self._timers.values()):
            timer.cancel()

    def _again(self, ident: str) -> None:
        try:
            with self._p.registry.locked(ident) as container:
                self._timers.pop(ident, None)
                if container.state.status is not Status.RESTARTING:
                    return
                count = container.state.restart_count + 1
                counted = msgspec.structs.replace(
                    container, state=msgspec.structs.replace(container.state, restart_count=count)
                )
                self.start(counted)
        except NotFound:
            return

    def start(self, container: Container) -> None:
        """As its policy wants; one that does not start is tried again. Under the container's lock."""
        try:
            self._watch(self._starter.start(container))
        except CnmError as error:
            log.error("container %s does not start again: %s", container.short, error)
            failed = self._p.registry.get(container.id)
            self.after(failed)
