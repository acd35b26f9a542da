"""What a build leaves that was cut off: processes, cgroups, podman's working containers, folders, its sandbox.

A build is known by its id, 64 hex digits, which is in the environment of podman and of all that it starts, in the
name of its cgroup, and in what podman writes down of its working containers.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from cnm.errors import CnmError
from cnm.kernel.processes import kill
from cnm.launcher import cgroups
from cnm.launcher.building import networks
from cnm.launcher.images import Images
from cnm.launcher.places import Places
from cnm.launcher.sandboxes import Sandboxes
from cnm.launcher.storage import Storage
from cnm.launcher.working_containers import notes

log = logging.getLogger("cnm.launcher")

_RECORD = "build.json"
VARIABLE = "CNM_BUILD"
"""Of podman's environment; its value is the build's id."""
_PATIENCE = 10.0


class Traces(msgspec.Struct, frozen=True):
    """What a build will have, written down before it begins."""

    cgroup: str
    has_sandbox: bool


class Folders(NamedTuple):
    """Of one build."""

    kept: str
    """On the disk, for what is big."""
    run: str
    """Goes with the next boot, as what it tells of does."""

    @property
    def context(self) -> str:
        """What the client sent."""
        return os.path.join(self.kept, "context")

    @property
    def scratch(self) -> str:
        """For podman."""
        return os.path.join(self.kept, "scratch")

    @property
    def runtime(self) -> str:
        return os.path.join(self.run, "runtime")

    @property
    def image(self) -> str:
        """The file that podman writes the image's id to."""
        return os.path.join(self.run, "image")

    def note(self, traces: Traces) -> None:
        os.makedirs(self.runtime, mode=0o700)
        with open(os.path.join(self.run, _RECORD), "wb") as file:
            file.write(msgspec.json.encode(traces))

    def traces(self) -> Traces:
        """Where they are lost, with the machine's power: cnmd may have its sandbox, and nothing else is there."""
        try:
            with open(os.path.join(self.run, _RECORD), "rb") as file:
                return msgspec.json.decode(file.read(), type=Traces)
        except (FileNotFoundError, msgspec.DecodeError):
            return Traces("", True)


def folders(places: Places, build: str) -> Folders:
    return Folders(os.path.join(places.builds, build), os.path.join(places.builds_run, build))


class Leftovers:
    """Removes them; what cannot be removed is told, and is tried again at the next start."""

    def __init__(self, places: Places, images: Images, sandboxes: Sandboxes) -> None:
        self._places, self._images, self._sandboxes = places, images, sandboxes

    def sweep(self) -> None:
        """Of all builds: none goes on."""
        for build in self._known():
            self._tried(build)
        try:
            self._forget(_containers(self._places.storage, ""))
        except CnmError as error:
            log.warning("working containers of podman's are not cleared away: %s", error)

    def sweep_others(self, going_on: Callable[[], set[str]]) -> None:
        """Of those that could not be cleared away, cnmd being away.

        `going_on` is asked afterwards: it has a build before there is anything of it.
        """
        known = self._known()
        for build in set(known) - going_on():
            self._tried(build)

    def clear(self, build: str, *, whole: bool) -> None:
        """Everything of one. `whole`: podman has ended by itself, and has taken its own away.

        Raises CnmError; what could be removed is.
        """
        place = folders(self._places, build)
        traces = place.traces()
        if not whole:
            _end_processes(build)
        if traces.cgroup:
            cgroups.clear(traces.cgroup)
        for path in (place.context, place.scratch):  # first: on a full disk podman needs the room
            shutil.rmtree(path, ignore_errors=True)
        if not whole:
            self._forget(_containers(self._places.storage, build))
        if traces.has_sandbox:
            networks.leave(build, self._sandboxes)
        for path in (place.kept, place.run):
            shutil.rmtree(path, ignore_errors=True)

    def _known(self) -> list[str]:
        return sorted({*os.listdir(self._places.builds), *os.listdir(self._places.builds_run)})

    def _tried(self, build: str) -> None:
        try:
            self.clear(build, whole=False)
        except CnmError as error:
            log.warning("build %s: %s", build[:12], error)

    def _forget(self, containers: list[str]) -> None:
        if containers:
            self._images.podman.run("rm", "--force", *containers)


def _containers(storage: str, build: str) -> list[str]:
    """Ids of podman's working containers of a build, of all where `build` is "". Raises CnmError."""
    found = [each.id for each in Storage(storage).containers()]
    return [each for each in found if not build or _is_of(notes(storage, each), build)]


def _is_of(path: str, build: str) -> bool:
    try:
        with open(path, "rb") as file:  # a power cut may have left anything in it
            return build.encode() in file.read()
    except FileNotFoundError:
        return False


def _end_processes(build: str) -> None:
    """podman, what it has started, and what that has. Raises CnmError where one does not end."""
    deadline = time.monotonic() + _PATIENCE
    while pids := [pid for pid in _pids() if pid != os.getpid() and _is_told(pid, build)]:
        for pid in pids:
            kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise CnmError(f"processes {sorted(pids)} of a build do not end")
        time.sleep(0.005)  # nothing tells of them all


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _is_told(pid: int, build: str) -> bool:
    """Whether it has the build's id in its arguments or its environment; a dead one has neither."""
    try:
        return any(
            build.encode() in Path("/proc", str(pid), name).read_bytes() for name in ("cmdline", "environ")
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
