"""Volumes: made, mounted, unmounted and removed; nothing goes that anybody has, or that nobody asked to go."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cnm.errors import CnmError, Conflict, NotFound
from cnm.events import EventBus
from cnm.launcher.changes import written
from cnm.launcher.volumes import copy_up
from cnm.launcher.volumes.drivers import LOCAL, Drivers, Kept, Plugins, Scope, VolumeDriver
from cnm.launcher.volumes.held import Held
from cnm.launcher.volumes.local import LocalDriver
from cnm.launcher.volumes.named_locks import NamedLocks
from cnm.launcher.volumes.other_hosts import NoOtherHosts, OtherHosts, Shared, as_known
from cnm.launcher.volumes.records import Records, folder_of
from cnm.launcher.volumes.use import Use
from cnm.launcher.volumes.users import Users
from cnm.launcher.volumes.volume import ANONYMOUS, Volume, new_name

log = logging.getLogger("cnm.launcher")

UNKNOWN_SIZE = -1
"""Docker's word for a size that is not told."""


class Listed(NamedTuple):
    volumes: list[Volume]
    paths: dict[str, str]
    """Where drivers say that their content is, by name."""
    warnings: list[str]
    """Of drivers that do not answer."""


class Volumes:
    """Thread-safe. Calls for one volume come one at a time."""

    def __init__(
        self,
        place: str,
        events: EventBus,
        plugins: Plugins | None = None,
        others: OtherHosts | None = None,
    ) -> None:
        """`place` is the folder of all volumes, which must exist."""
        self.others = others or NoOtherHosts()
        self._place = place
        self._events = events
        self._users = Users(place)
        self._records = Records(place)
        self.drivers = Drivers(LocalDriver(place, self._users), plugins)
        self.use = Use()
        self._guard = threading.Lock()
        self._volumes: dict[str, Volume] = {}
        self._locked = NamedLocks()
        self.held = Held()

    def load(self) -> None:
        """What was kept; what a kill left half made is finished, or goes."""
        for volume in self._records.all():
            self._volumes[volume.name] = volume
            if volume.driver == LOCAL:
                self._settle(volume)

    def _settle(self, volume: Volume) -> None:
        path = self.drivers.local.path(volume.name)
        if copy_up.is_interrupted(path):
            log.info("volume %s: the copy of the image's files is settled", volume.name)
            try:
                copy_up.finish(path)
            except CnmError as error:
                log.error("volume %s: %s", volume.name, error)

    # Found

    def find(self, name: str) -> Volume:
        """Also one that only its driver knows of. Raises NotFound in Docker's words."""
        with self._guard:
            known = self._volumes.get(name)
        if known is not None and not self._has_gone_elsewhere(known):
            return known
        for driver in self.drivers.known():
            with contextlib.suppress(CnmError):
                return self.others.described(_of_driver(driver, driver.get(name)))
        if (found := self.others.find(name)) is not None:
            return found
        raise NotFound(f"get {name}: no such volume")

    def all(self) -> Listed:
        """By name; with those that drivers tell of."""
        found = self._recorded()
        paths = {name: self.drivers.local.path(name) for name, each in found.items() if each.driver == LOCAL}
        warnings = []
        for driver in self.drivers.known()[1:]:
            try:
                for kept in driver.list():
                    volume = found.setdefault(kept.name, _of_driver(driver, kept))
                    if volume.driver == driver.name:
                        paths[kept.name] = kept.mountpoint
            except CnmError as error:
                warnings.append(str(error))
        return self._as_elsewhere(Listed([found[name] for name in sorted(found)], paths, warnings))

    def _as_elsewhere(self, listed: Listed) -> Listed:
        """Of volumes that all hosts reach: what other hosts know counts here, and what one has removed is gone."""
        shared = self.others.known()
        found = {volume.name: volume for _, volume in sorted(shared.volumes.items())}
        for volume in listed.volumes:
            if not shared.is_known or not self._is_ghost(volume, listed, shared):
                found[volume.name] = as_known(volume, shared)
        has_global = any(volume.scope is Scope.GLOBAL for volume in found.values())
        more = [shared.warning] if shared.warning and has_global else []
        return listed._replace(
            volumes=[found[name] for name in sorted(found)], warnings=[*listed.warnings, *more]
        )

    def _is_ghost(self, volume: Volume, listed: Listed, shared: Shared) -> bool:
        """Whether nobody else knows it any more: neither its driver, which answers, nor the cluster."""
        if volume.scope is not Scope.GLOBAL or listed.warnings or self.use.of(volume.name):
            return False
        return volume.name not in listed.paths and (volume.driver, volume.name) not in shared.volumes

    def _recorded(self) -> dict[str, Volume]:
        with self._guard:
            return dict(self._volumes)

    def path(self, volume: Volume) -> str:
        """Where its content is on the host; "" where nobody knows before it is mounted, or its driver is away."""
        try:
            return self.drivers.find(volume.driver).path(volume.name)
        except CnmError:
            return ""

    def kept(self, volume: Volume) -> Kept:
        """As its driver tells of it now. Raises CnmError."""
        return self.drivers.find(volume.driver).get(volume.name)

    # Made and removed

    def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        container: str = "",
    ) -> tuple[Volume, bool]:
        """The volume, and whether it is new: one that is there is taken as it is. `container` has it from then on.

        Raises Conflict where another driver has the name; InvalidParameter, NotFound for what cannot be.
        """
        name = name or new_name()
        folder_of(name)
        with self._locked(name):
            found = self._existing(name, driver, is_new=ANONYMOUS in (labels or {}))
            volume = found or self._create(name, driver, options, labels)
            if container:
                self.held.check(name, "volume")
                self._take(volume, container)
            return volume, found is None

    def _existing(self, name: str, driver: str, *, is_new: bool) -> Volume | None:
        """`is_new`: its name was just made up."""
        with self._guard:
            known = self._volumes.get(name)
        if known is None:
            return None if is_new else self._elsewhere(name, driver)
        if self._has_gone_elsewhere(known):
            return self._elsewhere(name, driver)
        if driver not in ("", known.driver):
            self.drivers.find(driver)
            raise Conflict(
                f"create {name}: driver '{known.driver}' already has volume '{name}': volume name must be unique"
            )
        return known

    def _has_gone_elsewhere(self, volume: Volume) -> bool:
        """Whether another host has removed it; its record here goes then."""
        if volume.scope is not Scope.GLOBAL or self.use.of(volume.name):
            return False
        try:
            keeper = self.drivers.find(volume.driver)
        except CnmError:
            return False
        try:
            keeper.get(volume.name)
        except NotFound:
            self._forget(volume)
            return True
        except CnmError:
            return False
        return False

    def _forget(self, volume: Volume) -> None:
        with self._locked(volume.name):
            self._records.delete(volume.name)
            with self._guard:
                self._volumes.pop(volume.name, None)

    def _elsewhere(self, name: str, driver: str) -> Volume | None:
        """One that another host has made, or that was made at its driver; without a driver at any, as with Docker."""
        if driver not in ("", LOCAL):
            with contextlib.suppress(NotFound):
                wanted = self.drivers.find(driver)
                return self._keep(self.others.described(_of_driver(wanted, wanted.get(name))))
            return self._of_cluster(name, driver)
        if driver:
            return None
        for each in self.drivers.known()[1:]:
            with contextlib.suppress(CnmError):
                return self._keep(self.others.described(_of_driver(each, each.get(name))))
        return self._of_cluster(name, driver)

    def _of_cluster(self, name: str, driver: str) -> Volume | None:
        """One that another host has made, of which this host's plugin has to be told: it has a list of its own."""
        found = self.others.find(name)
        if found is None or driver not in ("", found.driver):
            return None
        self.drivers.find(found.driver).create(name, found.options or {})
        return self._keep(found)

    def _create(
        self, name: str, driver: str, options: Mapping[str, str] | None, labels: Mapping[str, str] | None
    ) -> Volume:
        try:
            keeper = self.drivers.find(driver)
        except NotFound as error:
            raise NotFound(f"create {name}: {error}") from None
        keeper.create(name, options or {})
        volume = Volume(
            name=name,
            driver=keeper.name,
            created=time.time_ns(),
            labels=labels,
            options=options,
            scope=keeper.scope,
        )
        try:
            self._keep(volume)
        except BaseException:
            keeper.remove(name)
            self._records.delete(name)
            raise
        self._tell("create", volume)
        if volume.scope is Scope.GLOBAL:
            self.others.tell(volume, (), new=True)
        return volume

    def _keep(self, volume: Volume) -> Volume:
        self._records.write(volume)
        with self._guard:
            self._volumes[volume.name] = volume
        return volume

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict where a container has it, NotFound.

        With `force` one that is not there is fine, and one whose driver fails is no more known here.
        """
        with self._locked(name):
            try:
                volume = self.find(name)
                self.held.check(name, "remove")
                if users := self.use.of(name):
                    raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
                with self._removing_everywhere(volume, force=force):
                    self._remove(volume, force=force and volume.driver != LOCAL)
            except NotFound:
                if not force:
                    raise

    def _unmount_left(self, volume: Volume) -> None:
        """For containers that are gone, when the driver could not be told. Raises CnmError."""
        for user in self.mounted_by(volume.name):
            self.unmount(volume.name, user)

    def _remove(self, volume: Volume, *, force: bool) -> None:
        try:
            self._unmount_left(volume)
            self.drivers.find(volume.driver).remove(volume.name)
        except CnmError as error:
            if not force:
                raise
            log.warning("volume %s is forgotten, though its driver fails: %s", volume.name, error)
        self._records.delete(volume.name)
        with self._guard:
            self._volumes.pop(volume.name, None)
        self._tell("destroy", volume)

    # Of other hosts

    def _take(self, volume: Volume, container: str) -> None:
        """Raises Conflict where another host is removing it."""
        self.use.add(volume.name, container)
        try:
            self._tell_hosts(volume)
        except BaseException:
            self.use.drop([volume.name], container)
            raise

    def let_go(self, names: Iterable[str], container: str) -> None:
        """A container has them no more."""
        self.use.drop(names, container)
        recorded = self._recorded()
        for name in names:
            if name in recorded:
                self._tell_hosts(recorded[name])

    def _tell_hosts(self, volume: Volume) -> None:
        if volume.scope is Scope.GLOBAL:
            self.others.tell(volume, self.use.of(volume.name))

    def agree_with_other_hosts(self) -> None:
        """They know which volumes containers of this host have, whatever could not be told. Never fails."""
        shared = [volume for volume in self._recorded().values() if volume.scope is Scope.GLOBAL]
        self.others.agree([(volume, self.use.of(volume.name)) for volume in shared])

    @contextlib.contextmanager
    def _removing_everywhere(self, volume: Volume, *, force: bool) -> Iterator[None]:
        """Raises Conflict where another host has it, Unavailable where that is not known, unless `force`."""
        if volume.scope is not Scope.GLOBAL:
            yield
            return
        self.others.begin_removal(volume, force=force)
        removed = False
        try:
            yield
            removed = True
        finally:
            self.others.end_removal(volume, removed=removed)

    def used_elsewhere(self, volume: Volume) -> dict[str, Sequence[str]]:
        """Ids of containers that have it, by other hosts of the cluster."""
        if volume.scope is not Scope.GLOBAL:
            return {}
        return dict(self.others.known().users.get((volume.driver, volume.name), {}))

    def hold(self, name: str, reason: str, check: Callable[[Volume], object]) -> Volume:
        """Nobody uses or removes it from now on. `check` raises where it may not be held. Raises NotFound, Conflict."""
        with self._locked(name):
            volume = self.find(name)
            check(volume)
            self.held.add(name, reason)
            return volume

    def recorded(self) -> list[Volume]:
        """Those of which this host has a record."""
        return list(self._recorded().values())

    def folder(self, name: str) -> str:
        """Where its record is."""
        return os.path.join(self._place, folder_of(name))

    def check_new(self, name: str) -> None:
        """Raises Conflict where there is a volume of the name."""
        with contextlib.suppress(NotFound):
            found = self.find(name)
            raise Conflict(f"there is a volume {name} of the driver {found.driver} already")

    def take_in(self, volume: Volume, folder: str) -> None:
        """One that came from another host, into a folder of the place whose name begins with a dot. Raises CnmError."""
        with self._locked(volume.name):
            self.check_new(volume.name)
            self._records.take_in(volume, folder)
            with self._guard:
                self._volumes[volume.name] = volume
            self._tell("create", volume)

    def hand_over(self, name: str) -> None:
        """It is on another host, and goes here, held or not. Raises CnmError."""
        with self._locked(name):
            self._remove(self.find(name), force=False)

    def prune(self, selects: Callable[[Volume], bool]) -> tuple[list[str], int]:
        """Removes those of this host's own that no container has; (names, bytes that were freed).

        As with Docker what plugins keep stays: somebody else may have it, another daemon or another host.
        """
        removed, space = [], 0
        for volume in self._recorded().values():
            if volume.driver == LOCAL and selects(volume) and not self.use.of(volume.name):
                try:
                    size = max(self.size(volume), 0)
                    self.remove(volume.name)
                except (NotFound, Conflict):
                    continue
                except CnmError as error:
                    log.warning("volume %s is not pruned: %s", volume.name, error)
                    continue
                removed.append(volume.name)
                space += size
        self._events.publish("volume", "prune", "", reclaimed=str(space))
        return removed, space

    # Mounted

    def mount(self, name: str, user: str) -> str:
        """The path of its content, which stays until `unmount` of the same user, a container's id. Raises CnmError."""
        with self._locked(name):
            volume = self.find(name)
            self.held.check(name, "volume")
            driver = self.drivers.find(volume.driver)
            folder = folder_of(name)
            self._users.add(folder, user, durable=driver is not self.drivers.local)
            try:
                return driver.mount(name, user)
            except BaseException:
                self._give_up(driver, volume, user)
                raise

    def unmount(self, name: str, user: str) -> bool:
        """False where the user does not have it. Raises CnmError where the driver fails: it is to be tried again."""
        with self._locked(name):
            if user not in self._users.of(folder_of(name)):
                return False
            volume = self.find(name)
            self._unmount(self.drivers.find(volume.driver), volume, user)
            return True

    def _give_up(self, driver: VolumeDriver, volume: Volume, user: str) -> None:
        """Why it was not mounted is what is told; a driver that does not unmount either is asked again by `sweep`."""
        try:
            self._unmount(driver, volume, user)
        except CnmError as error:
            log.warning("%s", error)

    def _unmount(self, driver: VolumeDriver, volume: Volume, user: str) -> None:
        driver.unmount(volume.name, user)
        self._users.drop(folder_of(volume.name), user)

    def sweep(self, running: Collection[str]) -> None:
        """Who does not run has nothing mounted, whatever a kill or a power cut kept from being said."""
        for name in self._recorded():
            for user in set(self.mounted_by(name)) - set(running):
                try:
                    self.unmount(name, user)
                except CnmError as error:
                    log.error("volume %s stays mounted for container %s: %s", name, user[:12], error)

    def mounted_by(self, name: str) -> list[str]:
        """Ids of those who have it mounted now."""
        return self._users.of(folder_of(name))

    def last_use(self, name: str) -> int:
        """When somebody mounted or unmounted it last, nanoseconds since 1970; 0 for never."""
        return self._users.last_use(folder_of(name))

    def size(self, volume: Volume) -> int:
        """Bytes of its files; UNKNOWN_SIZE where they are not this host's own."""
        if volume.driver != LOCAL or volume.options:
            return UNKNOWN_SIZE
        path = self.drivers.local.path(volume.name)
        return written(path) if os.path.isdir(path) else 0

    def _tell(self, action: str, volume: Volume) -> None:
        self._events.publish("volume", action, volume.name, driver=volume.driver)


def _of_driver(driver: VolumeDriver, kept: Kept) -> Volume:
    return Volume(name=kept.name, driver=driver.name, scope=driver.scope)
