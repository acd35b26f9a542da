"""What follows when a container's process has ended: its exit code is kept, what it had goes, it may start again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator

from cnm.errors import CnmError, NotFound
from cnm.kernel.processes import has_ended, is_running
from cnm.launcher.attachments import Attachments
from cnm.launcher.container import Container, Status
from cnm.launcher.monitor import was_out_of_memory
from cnm.launcher.parts import Parts
from cnm.launcher.restarts import Restarts
from cnm.launcher.starting import Starter
from cnm.launcher.takedown import Takedown

log = logging.getLogger("cnm.launcher")

UNKNOWN = 255
"""The exit code where conmon was killed before its container ended: nobody has it."""


class Ender:
    """Watches those that run. `removed` is called for a container that is to be removed when it has ended."""

    def __init__(
        self,
        parts: Parts,
        starter: Starter,
        takedown: Takedown,
        attachments: Attachments,
        remove: Callable[[Container], None],
        started: Callable[[Container], None],
    ) -> None:
        """`started` is told of each that runs, from when it is watched."""
        self._started = started
        self._p = parts
        self._takedown = takedown
        self._attachments = attachments
        self._remove = remove
        self._kept: set[str] = set()
        self.restarts = Restarts(parts, starter, self.watch)

    def watch(self, container: Container) -> None:
        """From now on, until it has ended."""
        state = container.state
        self._watch(container, state.monitor_pid, state.monitor_started)
        self._started(container)

    @contextlib.contextmanager
    def kept(self, ident: str) -> Iterator[None]:
        """In the block its end is not its removal, whatever was asked for: it is to start again."""
        self._kept.add(ident)
        try:
            yield
        finally:
            self._kept.discard(ident)

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
            if self._outlives_monitor(container):
                log.warning(
                    "conmon of container %s was killed: its output and exit code are lost", ident[:12]
                )
                self._watch(container, container.state.pid, container.state.pid_started)
                return
            ended = self.end(container)
            if ended.host.auto_remove and ident not in self._kept:
                self._remove(ended)
            else:
                self.restarts.after(ended)

    def _outlives_monitor(self, container: Container) -> bool:
        state = container.state
        return self._p.monitor(container).exit_code(container.id) is None and is_running(
            state.pid, state.pid_started
        )

    def settle_now(self, container: Container, seconds: float) -> None:
        """Its processes were killed: it is settled when this returns. Raises CnmError where they do not end."""
        state = container.state
        if not has_ended(state.monitor_pid, seconds, state.monitor_started):
            self._release(container, seconds)
        if not has_ended(state.pid, seconds, state.pid_started):
            raise CnmError(f"container {container.short} was killed, and did not end within {seconds:.0f} s")
        self.settle(container.id, state.started)

    def _release(self, container: Container, seconds: float) -> None:
        """conmon does not see that its container has ended, because it is stopped, or writes to who does not read."""
        state = container.state
        if is_running(state.pid, state.pid_started):
            return
        log.error("conmon of container %s hangs: it is killed", container.short)
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.monitor_pid, signal.SIGKILL)
        has_ended(state.monitor_pid, seconds, state.monitor_started)

    def end(self, container: Container) -> Container:
        """Its processes are gone: its state says so, and what it had goes."""
        code = self._p.monitor(container).exit_code(container.id)
        oom_killed = was_out_of_memory(self._p.places.bundle(container.id))
        self._takedown.clear(container)
        self._attachments.forget(container.id)
        ended = self._p.registry.note_state(
            container,
            status=Status.EXITED,
            pid=0,
            monitor_pid=0,
            exit_code=UNKNOWN if code is None else code,
            oom_killed=oom_killed,
            finished=time.time_ns(),
        )
        self._p.registry.ended(ended)
        if oom_killed:
            self._p.tell("oom", ended)
        self._p.tell("die", ended, exitCode=str(ended.state.exit_code))
        return ended
