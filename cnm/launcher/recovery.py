"""Start-up: what became of each container while no launcher was there, and what a kill or a power cut left."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from cnm.errors import CnmError, NotFound
from cnm.kernel.processes import is_running
from cnm.launcher import cgroups, user_namespaces, views
from cnm.launcher.container import Container, Status
from cnm.launcher.ending import Ender
from cnm.launcher.parts import Parts
from cnm.launcher.restarts import wants_start
from cnm.launcher.runtime import Runtime
from cnm.launcher.strays import end_strays
from cnm.launcher.takedown import Takedown
from cnm.launcher.updating import finish_update
from cnm.wire.engine import EndpointSettings

log = logging.getLogger("cnm.launcher")

_GOES = (Status.CREATING, Status.REMOVING, Status.DEAD)
"""What does not stay: it was not made wholly, or removed."""
_AT_ONCE = 8
"""Containers that are started at the same time; more would only wait for each other."""


class Recovery:
    """Before anybody asks. One container that cannot be taken up does not stop the others."""

    def __init__(
        self, parts: Parts, ender: Ender, takedown: Takedown, remove: Callable[[Container], None]
    ) -> None:
        self._p = parts
        self._ender = ender
        self._takedown = takedown
        self._remove = remove

    def run(self) -> None:
        """Containers that are to start do so afterwards."""
        containers = self._p.registry.all()
        end_strays([each.root for each in self._p.runtimes.values()], _monitors(containers))
        for container in containers:
            self._each(container.id, self._settle)
        self._sweep({container.id for container in containers})
        views.sweep(self._p.places.views)
        self._p.volumes.sweep({each.id for each in self._p.registry.all() if each.state.status.is_alive})
        self.agree_with_cnmd()
        pool = ThreadPoolExecutor(_AT_ONCE, "starting")
        for container in reversed(containers):
            pool.submit(self._each, container.id, self._start)
        pool.shutdown(wait=False)

    def agree_with_cnmd(self) -> None:
        """Sandboxes of what does not run go; others are called as the records say, and the records say where they are.

        It is done again whenever cnmd is back.
        """
        try:
            sandboxes = self._p.sandboxes.records()
        except CnmError as error:
            log.warning("containers' networks are looked at later: %s", error)
            return
        for container in self._p.registry.all():
            found = sandboxes.get(container.id)
            if found and not _agrees(container, found):
                self._each(container.id, self._agree)
            elif not container.state.status.is_alive and not self._takedown.is_done(container):
                self._each(container.id, self._clear)

    def _each(self, ident: str, action: Callable[[Container], None]) -> None:
        """For a container that may be gone by now, under its lock."""
        try:
            with self._p.registry.locked(ident) as container:
                action(container)
        except NotFound:
            return
        except CnmError as error:
            log.error("container %s: %s", ident[:12], error)
        except Exception:
            log.exception("container %s is not taken up", ident[:12])

    # One that has run

    def _settle(self, container: Container) -> None:
        """Brought to a state that is true."""
        status = container.state.status
        if status.is_alive and _lives(container):
            self._take_up(container)
        elif status.is_alive:
            self._leave(self._ender.end(container))
        elif status is Status.RESTARTING:
            self._p.registry.note_state(container, status=Status.EXITED)
        else:
            self._clear(container)

    def _take_up(self, container: Container) -> None:
        """The runtime may have been asked to freeze it, or to let it go on, when the launcher was killed."""
        self._ender.watch(container)
        frozen = cgroups.is_frozen(container.cgroup)
        if frozen and container.state.status is Status.RUNNING:
            self._p.runtime(container).resume(container.id)
        if not frozen:
            container = self._p.registry.note_state(container, status=Status.RUNNING)
        finish_update(self._p, container)

    def _clear(self, container: Container) -> None:
        """Whatever is left of one that does not run."""
        status = container.state.status
        if status.is_alive or status is Status.RESTARTING:
            return
        was_begun = not self._takedown.is_done(container)
        if was_begun or self._is_mounted(container):
            self._takedown.clear(container)
        if was_begun or status is not Status.CREATED:
            self._leave(container)

    def _leave(self, container: Container) -> None:
        """It goes where that was asked for, once it does not run."""
        if container.state.status in _GOES or container.host.auto_remove:
            self._remove(container)

    def _is_mounted(self, container: Container) -> bool:
        return os.path.ismount(self._p.rootfs(container).path)

    def _start(self, container: Container) -> None:
        if not container.state.status.is_alive and wants_start(container):
            self._ender.restarts.start(container)

    # cnmd

    def _agree(self, container: Container) -> None:
        if not container.state.status.is_alive:
            self._takedown.clear(container)
            self._clear(container)
            return
        found = self._p.sandboxes.record(container.id)
        if found["Name"] != container.name:
            self._p.sandboxes.rename(container.id, container.name)
        joined = {each["Network"]: each for each in found["Endpoints"]}
        if joined.keys() != container.networks.keys():
            networks = {name: container.networks[name] for name in container.networks if name in joined}
            networks |= {name: _settings(joined[name]) for name in sorted(joined.keys() - networks.keys())}
            self._p.registry.put(msgspec.structs.replace(container, networks=networks))

    # Those that nobody knows

    def _sweep(self, known: set[str]) -> None:
        """A kill came before their record, or the records' disk was lost."""
        for runtime in self._p.runtimes.values():
            for ident in set(runtime.known()) - known:
                log.warning("container %s of the runtime is nobody's: it goes", ident[:12])
                _forget(runtime, ident)
        for ident in set(os.listdir(self._p.places.bundles)) - known:
            shutil.rmtree(self._p.places.bundle(ident), ignore_errors=True)
        for ident in set(os.listdir(self._p.places.all_namespaces)) - known:
            user_namespaces.remove(self._p.places.namespaces(ident))
        for ident in set(os.listdir(self._p.places.exits)) - known:
            os.unlink(os.path.join(self._p.places.exits, ident))
        for folder in os.listdir(self._p.places.execs):
            shutil.rmtree(os.path.join(self._p.places.execs, folder), ignore_errors=True)


def _agrees(container: Container, sandbox: Mapping[str, Any]) -> bool:
    return (
        container.state.status.is_alive
        and sandbox["Name"] == container.name
        and _joined(sandbox) == container.networks.keys()
    )


def _joined(sandbox: Mapping[str, Any]) -> set[str]:
    return {each["Network"] for each in sandbox["Endpoints"]}


def _settings(endpoint: Mapping[str, Any]) -> EndpointSettings:
    """What was asked for, as far as cnmd keeps it: somebody else connected it."""
    return EndpointSettings(
        aliases=endpoint["Aliases"] or None,
        driver_opts=endpoint["DriverOpts"] or None,
        gw_priority=endpoint["GwPriority"] or None,
    )


def _forget(runtime: Runtime, ident: str) -> None:
    try:
        runtime.delete(ident, force=True)
    except CnmError as error:
        log.error("container %s: %s", ident[:12], error)


def _monitors(containers: list[Container]) -> set[int]:
    """Of those that run."""
    return {
        each.state.monitor_pid
        for each in containers
        if each.state.status.is_alive and is_running(each.state.monitor_pid, each.state.monitor_started)
    }


def _lives(container: Container) -> bool:
    state = container.state
    return is_running(state.monitor_pid, state.monitor_started) or is_running(state.pid, state.pid_started)
