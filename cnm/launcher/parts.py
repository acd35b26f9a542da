"""What the launcher's verbs work with; one of each per process."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cnm.errors import InvalidParameter
from cnm.events import EventBus
from cnm.launcher.cnmd import Cnmd
from cnm.launcher.container import Container
from cnm.launcher.exits import Exits
from cnm.launcher.host import Host
from cnm.launcher.images import Images
from cnm.launcher.modes import user_mapping
from cnm.launcher.monitor import Monitor
from cnm.launcher.places import Places
from cnm.launcher.programs import Programs
from cnm.launcher.registry import Registry
from cnm.launcher.rootfs import Rootfs
from cnm.launcher.runtime import Runtime
from cnm.launcher.sandboxes import Sandboxes
from cnm.launcher.scopes import Scopes
from cnm.launcher.volumes.volumes import Volumes


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything here is thread-safe."""

    places: Places
    programs: Programs
    registry: Registry
    images: Images
    volumes: Volumes
    cnmd: Cnmd
    sandboxes: Sandboxes
    monitors: Mapping[str, Monitor]
    """By the runtime's name, as `runc`."""
    runtimes: Mapping[str, Runtime]
    exits: Exits
    events: EventBus
    host: Host
    scopes: Scopes = field(default_factory=Scopes)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(64, "launcher"))
    """For what may wait for a container's lock."""
    networking: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(64, "networking"))
    """For what those wait for who hold one: nothing in it waits for a lock, so that it is always done."""

    def rootfs(self, container: Container) -> Rootfs:
        place = self.places.container(container.id)
        mapping = user_mapping(container.host.userns_mode)
        return Rootfs(place, self.places.storage, container.layers, mapping)

    def runtime(self, container: Container) -> Runtime:
        return self.runtimes[self._checked(container.runtime)]

    def monitor(self, container: Container) -> Monitor:
        return self.monitors[self._checked(container.runtime)]

    def _checked(self, name: str) -> str:
        if name not in self.runtimes:
            raise InvalidParameter(f"unknown or invalid runtime name: {name}")
        return name

    def tell(self, action: str, container: Container, **attributes: str) -> None:
        """An event of the container, with its labels as Docker's have them."""
        told = {**(container.config.labels or {}), **attributes}
        told |= {"image": container.config.image or "", "name": container.name}
        self.events.publish("container", action, container.id, **told)
