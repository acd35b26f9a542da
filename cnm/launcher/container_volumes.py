"""The volumes of containers: made with them, filled from their image, mounted while they run, removed with them.

The rules are Docker's (daemon/volumes.go and create_unix.go of 20.10).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotBuilt, NotFound
from cnm.launcher.container import Container, Status
from cnm.launcher.filling import fill
from cnm.launcher.modes import user_mapping
from cnm.launcher.mount_points import Kind, MountPoint, inherited_points, mount_points, parse_volumes_from
from cnm.launcher.mounts import VolumePath
from cnm.launcher.parts import Parts
from cnm.launcher.views import Inner, view
from cnm.launcher.volumes.drivers import LOCAL
from cnm.launcher.volumes.volume import ANONYMOUS, Volume, new_name

log = logging.getLogger("cnm.launcher")

_replace = msgspec.structs.replace
_LABELLED = "z"
"""The mode that Docker tells of where none was given: content that containers may share."""


class ContainerVolumes:
    """Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._volumes = parts.volumes

    def load(self) -> None:
        """Who has which, from the records."""
        self._volumes.load()
        for container in self._p.registry.all():
            for name in container.volumes:
                self._volumes.use.add(name, container.id)

    # Made

    def create(
        self,
        name: str,
        driver: str,
        options: Mapping[str, str] | None,
        labels: Mapping[str, str] | None,
    ) -> tuple[Volume, bool]:
        """A volume that no container has; one without a name is anonymous."""
        if not name:
            name, labels = new_name(), {**(labels or {}), ANONYMOUS: ""}
        return self._volumes.create(name, driver, options, labels)

    def make(self, container: Container, undo: contextlib.ExitStack) -> Container:
        """With its mounts in it, whose volumes are there from now on. Raises CnmError; `undo` takes away what is new.

        The container's record comes first, as that of one that is being made: a kill leaves nobody's volumes.
        """
        container = _replace(container, mounts=self._planned(container))
        if not container.volumes:
            return container
        self._p.registry.keep(container)
        undo.callback(self._volumes.let_go, container.volumes, container.id)
        made = _replace(
            container, mounts=tuple(self._made(each, container, undo) for each in container.points)
        )
        fill(self._volumes, self._p.rootfs(made), made)
        return made

    def _planned(self, container: Container) -> tuple[MountPoint, ...]:
        """With names for anonymous volumes. Raises InvalidParameter for another container."""
        inherited = {point.destination: point for point in self._inherited(container)}
        found = mount_points(container.config, container.host, inherited.values())
        return tuple(
            _named(point) if point is not inherited.get(point.destination) else point for point in found
        )

    def _inherited(self, container: Container) -> Iterator[MountPoint]:
        for text in container.host.volumes_from or ():
            reference, writable = parse_volumes_from(text)
            try:
                other = self._p.registry.find(reference)
            except NotFound as error:
                raise InvalidParameter(str(error)) from None  # 404 has clients pull the image
            yield from inherited_points(other.points, writable=writable)

    def _made(self, point: MountPoint, container: Container, undo: contextlib.ExitStack) -> MountPoint:
        if point.kind is not Kind.VOLUME:
            return point
        options = point.asked.volume_options
        config = options.driver_config if options else None
        labels = dict((options.labels if options else None) or {})
        if point.is_anonymous:
            labels[ANONYMOUS] = ""
        volume, is_new = self._volumes.create(
            point.name,
            point.driver,
            (config.options if config else None) or None,
            labels or None,
            container=container.id,
        )
        if is_new:
            undo.callback(self._take_back, volume, point, container)
            self._give(volume, container)
        return _replace(point, driver=volume.driver, source=self._volumes.path(volume))

    def _give(self, volume: Volume, container: Container) -> None:
        """To root of the container's user namespace. Raises CnmError."""
        mapping = user_mapping(container.host.userns_mode)
        if mapping is not None and volume.is_own:
            path = self._volumes.path(volume)
            try:
                os.chown(path, mapping.host_id, mapping.host_id)
            except OSError as error:
                raise CnmError(f"create {volume.name}: {path}: {(error.strerror or '').lower()}") from None

    def _take_back(self, volume: Volume, point: MountPoint, container: Container) -> None:
        """Docker keeps those that have names."""
        self._volumes.let_go([volume.name], container.id)
        if point.is_anonymous:
            self._remove_unused(volume.name)

    # Mounted

    def mounting(self, container: Container) -> VolumePath:
        """What mounts the volumes of a container that starts; each once, however many places it has."""
        paths: dict[str, str] = {}

        def mounted(point: MountPoint) -> str:
            if point.name not in paths:
                paths[point.name] = self._volumes.mount(point.name, container.id)
            self._tell(
                "mount",
                point,
                container,
                **{
                    "destination": point.destination,
                    "read/write": str(point.writable).lower(),
                    "propagation": point.propagation,
                },
            )
            return paths[point.name]

        return mounted

    @contextlib.contextmanager
    def seen_in(self, container: Container, root: str) -> Iterator[str]:
        """The files of one that does not run, with its volumes and binds in them; there in the block."""
        points = [point for point in container.points if point.kind is not Kind.TMPFS]
        if not points:
            yield root
            return
        user = f"view-{new_name()[:16]}"
        names = dict.fromkeys(point.name for point in points if point.kind is Kind.VOLUME)
        with contextlib.ExitStack() as stack:
            paths = {}
            for name in names:
                self._volumes.use.add(name, user)
                stack.callback(self._volumes.let_go, [name], user)
                paths[name] = self._volumes.mount(name, user)
                stack.callback(self._volumes.unmount, name, user)
            inner = [
                Inner(paths.get(point.name, point.source), point.destination, point.writable)
                for point in points
                if point.kind is Kind.VOLUME or os.path.exists(point.source)
            ]
            yield stack.enter_context(view(self._p.places.views, root, inner))

    def unmount(self, container: Container) -> None:
        """Those that it has mounted. Raises the first CnmError when all were tried.

        Of one that is removed no driver's failure is in the way: the volume's removal tries it again.
        """
        failures = []
        for name in container.volumes:
            try:
                if self._volumes.unmount(name, container.id):
                    point = next(point for point in container.points if point.name == name)
                    self._tell("unmount", point, container)
            except CnmError as error:
                log.error("volume %s stays mounted for container %s: %s", name, container.short, error)
                failures.append(error)
        if failures and container.state.status is not Status.REMOVING:
            raise failures[0]

    def _tell(self, action: str, point: MountPoint, container: Container, **attributes: str) -> None:
        attributes = {"driver": point.driver, "container": container.id, **attributes}
        self._p.events.publish("volume", action, point.name, **attributes)

    # Removed

    def release(self, container: Container) -> None:
        """It has its volumes no more; those that nobody has named go with it where its state says so."""
        self.unmount(container)
        self._volumes.let_go(container.volumes, container.id)
        if container.state.takes_volumes:
            for name in dict.fromkeys(point.name for point in container.points if point.is_anonymous):
                self._remove_unused(name)

    def _remove_unused(self, name: str) -> None:
        try:
            self._volumes.remove(name)
        except (NotFound, Conflict):
            return
        except CnmError as error:
            log.error("volume %s is not removed: %s", name, error)


def _named(point: MountPoint) -> MountPoint:
    """A volume that is asked for. Raises NotBuilt."""
    if point.kind is not Kind.VOLUME:
        return point
    options = point.asked.volume_options
    if options and options.subpath:
        raise NotBuilt(f"volume-subpath of {point.destination} is not built: mount the whole volume")
    is_image_s = not point.asked.target
    mode = point.mode if is_image_s or point.driver not in ("", LOCAL) else point.mode or _LABELLED
    return _replace(point, name=point.name or new_name(), mode=mode)
