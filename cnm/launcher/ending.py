"""What follows when a container's process has ended: its exit code is kept, what it had goes, it may start again."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable

from cnm.errors import CnmError, NotFound
from cnm.launcher import shared_memory, user_namespaces
from cnm.launcher.attachments import Attachments
from cnm.launcher.container import Container, Status
from cnm.launcher.exits import started
from cnm.launcher.modes import shared_with
from cnm.launcher.monitor import was_out_of_memory
from cnm.launcher.parts import Parts
from cnm.launcher.restarts import Restarts
from cnm.launcher.starting import Starter

log = logging.getLogger("cnm.launcher")

UNKNOWN = 255
"""The exit code where conmon was killed before its container ended: nobody has it."""


class Ender:
    """Watches those that run. `removed` is called for a container that is to be removed when it has ended."""

    def __init__(
        self,
        parts: Parts,
        starter: Starter,
        attachments: Attachments,
        remove: Callable[[Container], None],
        started: Callable[[Container], None],
    ) -> None:
        """`started` is told of each that runs, from when it is watched."""
        self._started = started
        self._p = parts
        self._attachments = attachments
        self._remove = remove
        self.restarts = Restarts(parts, starter, self)

    def watch(self, container: Container) -> None:
        """From now on, until it has ended."""
        state = container.state
        self._watch(container, state.monitor_pid, state.monitor_started)
        self._started(container)

    def _watch(self, container: Container, pid: int, begun: int) -> None:
        """Of this life of the container: it may have another one by the time it is told."""
        life = container.state.started
        self._p.exits.watch(container.id, pid, lambda ident: self._told(ident, life), begun)

    def _told(self, ident: str, life: int) -> None:
        self._p.workers.submit(self._logged, ident, life)

    def _logged(self, ident: str, life: int) -> None:
        try:
            self.settle(ident, life)
        except NotFound:
            pass
        except CnmError as error:
            log.error("container %s has ended, and is not wholly gone: %s", ident[:12], error)
        except Exception:
            log.exception("container %s has ended, and is not wholly gone", ident[:12])

    def settle(self, ident: str, life: int) -> None:
        """conmon is gone: with it the container, unless somebody killed conmon. `life` is when that began."""
        with self._p.registry.locked(ident) as container:
            if not container.state.status.is_alive or container.state.started != life:
                return
            code = self._p.monitor(container).exit_code(ident)
            if code is None and self.lives(container):
                log.warning(
                    "conmon of container %s was killed: its output and exit code are lost", ident[:12]
                )
                self._watch(container, container.state.pid, container.state.pid_started)
                return
            ended = self._end(container, UNKNOWN if code is None else code)
            self._p.registry.ended(ended)
            if ended.host.auto_remove:
                self._remove(ended)
            else:
                self.restarts.after(ended)

    def settle_now(self, container: Container, seconds: float) -> None:
        """Its processes were killed: it is settled when this returns. Raises CnmError where they do not end."""
        if not has_ended(container.state.monitor_pid, seconds):
            raise CnmError(f"container {container.short} was killed, and did not end within {seconds:.0f} s")
        self.settle(container.id, container.state.started)

    def lives(self, container: Container) -> bool:
        state = container.state
        return state.pid != 0 and started(state.pid) == state.pid_started

    def _end(self, container: Container, code: int) -> Container:
        oom_killed = was_out_of_memory(self._p.places.bundle(container.id))
        self.take_down(container)
        self._attachments.forget(container.id)
        ended = self._p.registry.set_state(
            container,
            status=Status.EXITED,
            pid=0,
            monitor_pid=0,
            exit_code=code,
            oom_killed=oom_killed,
            finished=time.time_ns(),
        )
        if oom_killed:
            self._p.tell("oom", ended)
        self._p.tell("die", ended, exitCode=str(code))
        return ended

    def take_down(self, container: Container) -> None:
        """Whatever a life of it has made, as far as it is there; what fails is logged, and the rest is done."""
        self._attempt(container, lambda: self._p.runtime(container).delete(container.id, force=True))
        if not shared_with(container.host.network_mode):
            self._attempt(container, lambda: self._p.sandboxes.remove(container.id))
        self._attempt(container, self._p.rootfs(container).unmount)
        self._attempt(container, lambda: shared_memory.remove(self._p.places.shm(container.id)))
        self._attempt(container, lambda: user_namespaces.remove(self._p.places.namespaces(container.id)))

    def _attempt(self, container: Container, action: Callable[[], object]) -> None:
        try:
            action()
        except CnmError as error:
            log.error("container %s: %s", container.short, error)


def has_ended(pid: int, seconds: float) -> bool:
    """Waits for a process, whoever's child it is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)
