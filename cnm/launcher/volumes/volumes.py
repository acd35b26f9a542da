"""Volumes: made, mounted, unmounted and removed; nothing goes that anybody has, or that nobody asked to go."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from cnm.errors import CnmError, Conflict, NotFound
from cnm.events import EventBus
from cnm.launcher.changes import written
from cnm.launcher.volumes.drivers import LOCAL, Drivers, Kept, Plugins, Scope, VolumeDriver
from cnm.launcher.volumes.held import Held
from cnm.launcher.volumes.listing import Listed, listed
from cnm.launcher.volumes.local import LocalDriver
from cnm.launcher.volumes.mounting import Mounting
from cnm.launcher.volumes.named_locks import NamedLocks
from cnm.launcher.volumes.other_hosts import NoOtherHosts, OtherHosts
from cnm.launcher.volumes.records import Records, folder_of
from cnm.launcher.volumes.sharing import Sharing
from cnm.launcher.volumes.unrecorded import Unrecorded
from cnm.launcher.volumes.use import Use
from cnm.launcher.volumes.users import Users
from cnm.launcher.volumes.volume import ANONYMOUS, Volume, new_name

log = logging.getLogger("cnm.launcher")

UNKNOWN_SIZE = -1
"""Docker's word for a size that is not told."""
_REMOVER = "removal"
"""Who mounts what is to be removed."""


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
        users = Users(place)
        self._records = Records(place)
        self.drivers = Drivers(LocalDriver(place, users, self._options), plugins)
        self._mounting = Mounting(self.drivers, self._records, users)
        self._unrecorded = Unrecorded(self.drivers, self.others)
        self.use = Use()
        self._sharing = Sharing(self.others, self.use)
        self._guard = threading.Lock()
        self._volumes: dict[str, Volume] = {}
        self._locked = NamedLocks()
        self.held = Held()

    def load(self) -> None:
        """What was kept; what a kill left half made is finished, or goes."""
        for volume in self._records.all():
            self._volumes[volume.name] = volume
            if volume.driver == LOCAL and not volume.options and not self.fault(volume.name):
                try:
                    self._mounting.finish_copy(volume.name, self.drivers.local.path(volume.name))
                except CnmError as error:
                    log.error("volume %s: %s", volume.name, error)

    def _options(self, name: str) -> Mapping[str, str]:
        """As its record has them; none before there is one."""
        with self._guard:
            known = self._volumes.get(name)
        return (known.options if known else None) or {}

    # Found

    def find(self, name: str) -> Volume:
        """Also one that only its driver knows of. Raises NotFound in Docker's words."""
        with self._guard:
            known = self._volumes.get(name)
        if known is not None and not self._has_gone_elsewhere(known):
            return known
        if (found := self._unrecorded.find(name)) is not None:
            return found
        raise NotFound(f"get {name}: no such volume")

    def all(self) -> Listed:
        """By name; with those that drivers tell of."""
        return self._sharing.listed(listed(self._recorded(), self.drivers, self.fault, self.path))

    def _recorded(self) -> dict[str, Volume]:
        with self._guard:
            return dict(self._volumes)

    def path(self, volume: Volume) -> str:
        """Where its content is on the host; "" where nobody knows before it is mounted, or its driver is away."""
        if self.fault(volume.name):
            return self._records.path(volume.name)
        try:
            return self.drivers.find(volume.driver).path(volume.name)
        except CnmError:
            return ""

    def kept(self, volume: Volume) -> Kept:
        """As its driver tells of it now. Raises CnmError."""
        self._check(volume)
        return self.drivers.find(volume.driver).get(volume.name)

    def fault(self, name: str) -> str:
        """Why one that is listed can only be removed, and that by force; "" for one that is as it should be."""
        return self._records.fault(name)

    def _check(self, volume: Volume) -> Volume:
        """Raises Conflict for one that has a fault."""
        if fault := self.fault(volume.name):
            raise Conflict(f"volume {volume.name}: {fault}")
        return volume

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
                self._sharing.take(volume, container)
            return volume, found is None

    def _existing(self, name: str, driver: str, *, is_new: bool) -> Volume | None:
        """`is_new`: its name was just made up."""
        with self._guard:
            known = self._volumes.get(name)
        if known is None:
            return None if is_new else self._elsewhere(name, driver)
        self._check(known)
        if self._is_gone(known):
            log.warning("volume %s: driver %s has it no more", name, known.driver)
            self._forget(known)
            return self._elsewhere(name, driver)
        if driver not in ("", known.driver):
            self.drivers.find(driver)
            raise Conflict(
                f"create {name}: driver '{known.driver}' already has volume '{name}': volume name must be unique"
            )
        return known

    def _is_gone(self, volume: Volume) -> bool:
        """Whether its driver knows nothing of it, and no container has it; as Docker finds out, too."""
        return not self.use.of(volume.name) and self._unrecorded.is_gone(volume)

    def _has_gone_elsewhere(self, volume: Volume) -> bool:
        """Whether another host has removed it; its record here goes then."""
        if volume.scope is not Scope.GLOBAL or not self._is_gone(volume):
            return False
        self._forget(volume)
        return True

    def _forget(self, volume: Volume) -> None:
        """Unless it has been made anew, or taken, since it was looked at. Raises CnmError."""
        with self._locked(volume.name):
            if self._recorded().get(volume.name) is volume and not self.use.of(volume.name):
                self._delete(volume)

    def _elsewhere(self, name: str, driver: str) -> Volume | None:
        """One that another host has made, or that was made at its driver."""
        found = self._unrecorded.reach(name, driver)
        return self._keep(found) if found else None

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
            self._undo(keeper, name)
            raise
        self._tell("create", volume)
        self._sharing.made(volume)
        return volume

    def _undo(self, keeper: VolumeDriver, name: str) -> None:
        """Why it could not be made is what is told."""
        try:
            keeper.remove(name)
            self._records.delete(self._records.set_aside(name))
        except CnmError as error:
            log.warning("of volume %s, which could not be made, something is left: %s", name, error)

    def _keep(self, volume: Volume) -> Volume:
        self._records.write(volume)
        with self._guard:
            self._volumes[volume.name] = volume
        return volume

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict where a container has it, NotFound.

        With `force` one that is not there is fine, one whose driver fails is no more known here, and one that has a
        fault goes with whatever is in its folder.
        """
        with self._locked(name):
            try:
                volume = self.find(name)
                self.held.check(name, "remove")
                if users := self.use.of(name):
                    raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
                if not force:
                    self._check(volume)
                if self.fault(name):
                    self._delete(volume)
                    return
                with self._sharing.removing(volume, force=force):
                    self._remove(volume, force=force and volume.driver != LOCAL)
            except NotFound:
                if not force:
                    raise

    def _unmount_left(self, volume: Volume) -> None:
        """For containers that are gone, when the driver could not be told. Raises CnmError."""
        if self._mounting.is_copied_in_part(volume.name):
            self._finish_copy_elsewhere(volume)
        for user in self.mounted_by(volume.name):
            try:
                self.unmount(volume.name, user)
            except CnmError as error:
                raise type(error)(f"remove {volume.name}: {error}") from None

    def _finish_copy_elsewhere(self, volume: Volume) -> None:
        """What its options or a plugin mount may stay when the volume goes, and is to be as it was."""
        try:
            self.mount(volume.name, _REMOVER)
        except CnmError as error:
            log.warning("volume %s: %s", volume.name, error)

    def _remove(self, volume: Volume, *, force: bool) -> None:
        """With `force` also where its driver fails. Raises CnmError."""
        try:
            self._unmount_left(volume)
            self.drivers.find(volume.driver).remove(volume.name)
        except CnmError as error:
            if not force:
                raise
            log.warning("volume %s is forgotten, though its driver fails: %s", volume.name, error)
        self._delete(volume)

    def _delete(self, volume: Volume) -> None:
        """Raises CnmError; what is left then is listed."""
        aside = self._records.set_aside(volume.name)
        with self._guard:
            self._volumes.pop(volume.name, None)
        self._tell("destroy", volume)
        try:
            self._records.delete(aside)
        except CnmError as error:
            with self._guard:
                self._volumes[aside] = Volume(name=aside)
            raise CnmError(f"remove {volume.name}: {error}: it is listed as {aside} now") from None

    # Of other hosts

    def let_go(self, names: Iterable[str], container: str) -> None:
        """A container has them no more."""
        self.use.drop(names, container)
        recorded = self._recorded()
        for name in names:
            if name in recorded:
                self._sharing.tell(recorded[name])

    def agree_with_other_hosts(self) -> None:
        """They know which volumes containers of this host have, whatever could not be told. Never fails."""
        self._sharing.agree(self.recorded())

    def used_elsewhere(self, volume: Volume) -> dict[str, Sequence[str]]:
        """Ids of containers that have it, by other hosts of the cluster."""
        return self._sharing.users(volume)

    def hold(self, name: str, reason: str, check: Callable[[Volume], object]) -> Volume:
        """Nobody uses or removes it from now on. `check` raises where it may not be held; it is this host's own.

        Raises NotFound, Conflict, CnmError.
        """
        with self._locked(name):
            volume = self._check(self.find(name))
            check(volume)
            self._mounting.finish_copy(name, self.path(volume))
            self.held.add(name, reason)
            return volume

    def recorded(self) -> list[Volume]:
        """Those of which this host has a record."""
        return list(self._recorded().values())

    def folder(self, name: str) -> str:
        """Where its record is."""
        return self._records.path(name)

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
            volume = self.find(name)
            if self.fault(name):
                self._delete(volume)
            else:
                self._remove(volume, force=False)

    def prune(self, selects: Callable[[Volume], bool]) -> tuple[list[str], int]:
        """Removes those of this host's own that no container has; (names, bytes that were freed).

        As with Docker what plugins keep stays: somebody else may have it, another daemon or another host.
        """
        removed, space = [], 0
        for volume in self._recorded().values():
            if self._can_be_pruned(volume) and selects(volume):
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

    def _can_be_pruned(self, volume: Volume) -> bool:
        return volume.driver == LOCAL and not self.fault(volume.name) and not self.use.of(volume.name)

    # Mounted

    def mount(self, name: str, user: str) -> str:
        """The path of its content, which stays until `unmount` of the same user, a container's id. Raises CnmError."""
        with self._locked(name):
            volume = self._check(self.find(name))
            self.held.check(name, "volume")
            return self._mounting.mount(volume, user)

    def may_be_empty(self, name: str) -> bool:
        """As far as that can be seen without mounting it; a copy into it that is under way is waited for."""
        with self._locked(name):
            return self._mounting.may_be_empty(self.find(name))

    def fill(self, name: str, user: str, source: int) -> bool:
        """An empty volume takes what is in the directory of the descriptor `source`. Raises CnmError.

        False where it was not empty. Nobody else mounts it before it has everything.
        """
        with self._locked(name):
            target = self.mount(name, user)
            try:
                return self._mounting.copy_up(name, source, target)
            finally:
                self.unmount(name, user)

    def unmount(self, name: str, user: str) -> bool:
        """False where the user does not have it. Raises CnmError where the driver fails: it is to be tried again."""
        with self._locked(name):
            if user not in self.mounted_by(name):
                return False
            self._mounting.unmount(self._check(self.find(name)), user)
            return True

    def sweep(self, running: Collection[str]) -> None:
        """Who does not run has nothing mounted, whatever a kill or a power cut kept from being said."""
        for name in self._recorded():
            if self.fault(name):
                continue
            for user in set(self.mounted_by(name)) - set(running):
                try:
                    self.unmount(name, user)
                except CnmError as error:
                    log.error("volume %s stays mounted for container %s: %s", name, user[:12], error)

    def mounted_by(self, name: str) -> list[str]:
        """Ids of those who have it mounted now."""
        return self._mounting.users(name)

    def last_use(self, name: str) -> int:
        """When somebody mounted or unmounted it last, nanoseconds since 1970; 0 for never."""
        return self._mounting.last_use(name)

    def size(self, volume: Volume, seconds: float = math.inf) -> int:
        """Bytes of its files, also of one with a fault.

        UNKNOWN_SIZE where they are not this host's own, and where looking at them takes longer than `seconds`.
        """
        if not self.is_own(volume):
            return UNKNOWN_SIZE
        path = self.path(volume)
        try:
            return written(path, time.monotonic() + seconds) if os.path.isdir(path) else 0
        except (OSError, CnmError) as error:
            log.info("the size of volume %s is not told: %s", volume.name, error)
            return UNKNOWN_SIZE

    def is_own(self, volume: Volume) -> bool:
        """Whether its files are in its folder on this host."""
        return volume.driver == LOCAL and not volume.options

    def _tell(self, action: str, volume: Volume) -> None:
        self._events.publish("volume", action, volume.name, driver=volume.driver)
