"""Volumes: made, mounted, unmounted and removed; nothing goes that anybody has, or that nobody asked to go."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence

from cnm.errors import CnmError, Conflict, NotFound
from cnm.events import EventBus
from cnm.launcher.volumes.creating import Creating, Texts
from cnm.launcher.volumes.drivers import LOCAL, Drivers, Kept, Plugins
from cnm.launcher.volumes.held import Held
from cnm.launcher.volumes.listing import Listed, listed
from cnm.launcher.volumes.local import LocalDriver
from cnm.launcher.volumes.lookup import Lookup
from cnm.launcher.volumes.mounting import Mounting
from cnm.launcher.volumes.named_locks import NamedLocks
from cnm.launcher.volumes.other_hosts import NoOtherHosts, OtherHosts
from cnm.launcher.volumes.records import folder_of
from cnm.launcher.volumes.registry import Registry
from cnm.launcher.volumes.removing import Removing
from cnm.launcher.volumes.sharing import Sharing
from cnm.launcher.volumes.size import size_of
from cnm.launcher.volumes.use import Use
from cnm.launcher.volumes.users import Users
from cnm.launcher.volumes.volume import Volume, new_name

log = logging.getLogger("cnm.launcher")


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
        self._events = events
        self._registry = Registry(place, events)
        users = Users(place)
        self.drivers = Drivers(LocalDriver(place, users, self._registry.options), plugins)
        self.use = Use()
        self.held = Held()
        self._locked = NamedLocks()
        self._mounting = Mounting(self.drivers, self._registry, users)
        self._sharing = Sharing(self.others, self._registry, self.use)
        self._lookup = Lookup(self._registry, self.drivers, self.others, self.use, self._locked)
        self._creating = Creating(self._registry, self.drivers, self._lookup, self._sharing)
        self._removing = Removing(self._registry, self.drivers, self._mounting, self._sharing, self.use)

    def load(self) -> None:
        """What was kept; what a kill left half made is finished, or goes."""
        self._registry.load()
        for volume in self.recorded():
            if volume.is_own and not self.fault(volume.name):
                try:
                    self._mounting.finish_copy(volume.name, self.path(volume))
                except CnmError as error:
                    log.error("volume %s: %s", volume.name, error)

    # Found

    def find(self, name: str) -> Volume:
        """Also one that only its driver knows of. Raises NotFound in Docker's words."""
        return self._lookup.find(name)

    def all(self) -> Listed:
        """By name; with those that drivers tell of."""
        return self._sharing.listed(listed(self._registry.all(), self.drivers, self.fault, self.path))

    def path(self, volume: Volume) -> str:
        """Where its content is on the host; "" where nobody knows before it is mounted, or its driver is away."""
        if self.fault(volume.name):
            return self._registry.folder(volume.name)
        try:
            return self.drivers.find(volume.driver).path(volume.name)
        except CnmError:
            return ""

    def kept(self, volume: Volume) -> Kept:
        """As its driver tells of it now. Raises CnmError."""
        self._registry.check(volume)
        return self.drivers.find(volume.driver).get(volume.name)

    def fault(self, name: str) -> str:
        """Why one that is listed can only be removed, and that by force; "" for one that is as it should be."""
        return self._registry.fault(name)

    # Made and removed

    def create(
        self,
        name: str = "",
        driver: str = "",
        options: Texts = None,
        labels: Texts = None,
        *,
        container: str = "",
    ) -> tuple[Volume, bool]:
        """The volume, and whether it is new: one that is there is taken as it is. `container` has it from then on.

        Raises Conflict where another driver has the name; InvalidParameter, NotFound for what cannot be.
        """
        name = name or new_name()
        folder_of(name)
        with self._locked(name):
            volume, is_new = self._creating.create(name, driver, options, labels)
            if container:
                self.held.check(name, "volume")
                self._sharing.take(volume, container)
            return volume, is_new

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict where a container has it, NotFound.

        With `force` one that is not there is fine, one whose driver fails is no more known here, and one that has a
        fault goes with whatever is in its folder.
        """
        with self._locked(name):
            try:
                volume = self.find(name)
                self.held.check(name, "remove")
                self._removing.remove(volume, force=force)
            except NotFound:
                if not force:
                    raise

    def prune(self, selects: Callable[[Volume], bool]) -> tuple[list[str], int]:
        """Removes those of this host's own that no container has; (names, bytes that were freed).

        What goes wrong with one does not keep the others. As with Docker what plugins keep stays: somebody else may
        have it, another daemon or another host.
        """
        removed, space = [], 0
        for volume in self.recorded():
            if self._can_be_pruned(volume) and selects(volume):
                try:
                    size = max(self.size(volume), 0)
                    self.remove(volume.name)
                except NotFound:
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

    # Of other hosts

    def let_go(self, names: Iterable[str], container: str) -> None:
        """A container has them no more."""
        self.use.drop(names, container)
        for name in names:
            if volume := self._registry.get(name):
                self._sharing.let_go(volume)

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
            volume = self._registry.check(self.find(name))
            check(volume)
            self._mounting.finish_copy(name, self.path(volume))
            self.held.add(name, reason)
            return volume

    def recorded(self) -> list[Volume]:
        """Those of which this host has a record."""
        return list(self._registry.all().values())

    def folder(self, name: str) -> str:
        """Where its record is."""
        return self._registry.folder(name)

    def check_new(self, name: str) -> None:
        """Raises Conflict where there is a volume of the name."""
        with contextlib.suppress(NotFound):
            found = self.find(name)
            raise Conflict(f"there is a volume {name} of the driver {found.driver} already")

    def take_in(self, volume: Volume, folder: str) -> None:
        """One that came from another host, into a folder of the place whose name begins with a dot. Raises CnmError."""
        with self._locked(volume.name):
            self.check_new(volume.name)
            self._registry.take_in(volume, folder)

    def hand_over(self, name: str) -> None:
        """It is on another host, and goes here, held or not. Raises CnmError."""
        with self._locked(name):
            self._removing.hand_over(self.find(name))

    # Mounted

    def mount(self, name: str, user: str) -> str:
        """The path of its content, which stays until `unmount` of the same user, a container's id. Raises CnmError."""
        with self._locked(name):
            volume = self._registry.check(self.find(name))
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
            self._mounting.unmount(self._registry.check(self.find(name)), user)
            return True

    def sweep(self, running: Collection[str]) -> None:
        """Who does not run has nothing mounted, whatever a kill or a power cut kept from being said."""
        for name in self._registry.all():
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
        """Bytes of its files, also of one with a fault; UNKNOWN_SIZE where that takes longer than `seconds`."""
        return size_of(volume, self.path(volume), seconds)
