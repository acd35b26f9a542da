"""All builds that go on, and what is left of those that were cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import BinaryIO

from cnm.launcher.building.build import Build, Workshop, no_file
from cnm.launcher.building.leftovers import Leftovers
from cnm.launcher.building.remembered import Memory
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.parts import Parts
from cnm.launcher.requests import new_id


class Builds:
    """Thread-safe; any number of builds at a time."""

    def __init__(
        self, parts: Parts, events: ImageEvents, cgroup_parent: str, running: Callable[[str], str]
    ) -> None:
        """`running` finds the id of a container by its name; it raises where it does not run."""
        self._leftovers = Leftovers(parts.places, parts.images, parts.sandboxes)
        self.memory = Memory(parts.places.remembered_builds)
        self._workshop = Workshop(parts, events, cgroup_parent, running, self._leftovers, self.memory)
        self._going_on: dict[str, Build] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Clear away what was left by a launcher that was killed."""
        self.memory.settle()
        self._leftovers.sweep()

    def cnmd_is_back(self) -> None:
        """Sandboxes that could not be removed go."""
        self._leftovers.sweep_others(self._ids)

    def _ids(self) -> set[str]:
        with self._lock:
            return set(self._going_on)

    def close(self) -> None:
        """What goes on ends."""
        with self._lock:
            builds = list(self._going_on.values())
        for build in builds:
            self.end(build)

    def begin(self, request: BuildRequest, archive: BinaryIO) -> Build:
        """To be ended. Raises CnmError in Docker's words for what is wrong before the first step."""
        build = Build(self._workshop, new_id(), request)
        with self._lock:
            self._going_on[build.id] = build
        try:
            build.read(archive)
        except OSError as error:
            self.end(build)
            raise no_file(error) from None
        except BaseException:
            self.end(build)
            raise
        return build

    def end(self, build: Build) -> None:
        """Whatever has become of it. Works from any thread, and twice."""
        build.close()
        with self._lock:
            self._going_on.pop(build.id, None)
