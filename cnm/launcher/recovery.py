"""Start-up: what became of each container while no launcher was there, and what a kill or a power cut left."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable

from cnm.errors import CnmError
from cnm.launcher import user_namespaces
from cnm.launcher.container import Container, Status
from cnm.launcher.ending import UNKNOWN, Ender
from cnm.launcher.exits import started
from cnm.launcher.parts import Parts
from cnm.launcher.restarts import wants_start
from cnm.launcher.starting import Starter

log = logging.getLogger("cnm.launcher")


class Recovery:
    """Before anybody asks. One container that cannot be taken up does not stop the others."""

    def __init__(
        self, parts: Parts, starter: Starter, ender: Ender, remove: Callable[[Container], None]
    ) -> None:
        self._p = parts
        self._starter = starter
        self._ender = ender
        self._remove = remove

    def run(self) -> None:
        containers = self._p.registry.all()
        starting = [container for container in reversed(containers) if self._settled(container)]
        self._sweep({container.id for container in containers})
        for container in starting:
            self._p.workers.submit(self._start, container)

    def _settled(self, container: Container) -> bool:
        """Brought to a state that is true; whether it is to be started."""
        try:
            return self._settle(container)
        except CnmError as error:
            log.error("container %s is not taken up: %s", container.short, error)
            return False

    def _settle(self, container: Container) -> bool:
        status = container.state.status
        if status in (Status.CREATING, Status.REMOVING, Status.DEAD):
            self._ender.take_down(container)
            self._remove(container)
            return False
        if status.is_alive and self._runs_on(container):
            return False
        ran = status.is_alive or status is Status.RESTARTING
        self._ender.take_down(container)
        if ran:
            container = self._ended(container)
            if container.host.auto_remove:
                self._remove(container)
                return False
        return (ran and wants_start(container)) or _always(container)

    def _runs_on(self, container: Container) -> bool:
        state = container.state
        if started(state.monitor_pid) == state.monitor_started != 0:
            self._ender.watch(container)
            return True
        if self._ender.lives(container):
            self._ender.settle(
                container.id, state.started
            )  # conmon was killed: its container is watched itself
            return True
        return False

    def _ended(self, container: Container) -> Container:
        code = self._p.monitor(container).exit_code(container.id)
        return self._p.registry.set_state(
            container,
            status=Status.EXITED,
            pid=0,
            monitor_pid=0,
            exit_code=UNKNOWN if code is None else code,
            finished=time.time_ns(),
        )

    def _start(self, container: Container) -> None:
        try:
            with self._p.registry.locked(container.id) as found:
                self._ender.watch(self._starter.start(found))
        except CnmError as error:
            log.error("container %s does not start: %s", container.short, error)

    def _sweep(self, known: set[str]) -> None:
        """What is left of containers that nobody knows: a kill came before their record, or after it had gone."""
        for runtime in self._p.runtimes.values():
            for ident in runtime.known():
                if ident not in known:
                    log.warning("container %s of the runtime is nobody's: it goes", ident[:12])
                    runtime.delete(ident, force=True)
        for ident in os.listdir(self._p.places.bundles):
            if ident not in known:
                shutil.rmtree(self._p.places.bundle(ident), ignore_errors=True)
        for ident in os.listdir(self._p.places.all_namespaces):
            if ident not in known:
                user_namespaces.remove(self._p.places.namespaces(ident))
        for ident in os.listdir(self._p.places.exits):
            if ident not in known:
                os.unlink(os.path.join(self._p.places.exits, ident))


def _always(container: Container) -> bool:
    policy = container.host.restart_policy
    return policy is not None and policy.name == "always" and bool(container.state.started)
