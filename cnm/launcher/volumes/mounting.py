"""Volumes are mounted, and never with half of a copy in them.

Who has one mounted is on the disk before its driver is asked to, and until that has unmounted it.
"""

from __future__ import annotations

import logging
import os

from cnm.errors import CnmError
from cnm.launcher.volumes import copy_up
from cnm.launcher.volumes.drivers import LOCAL, Drivers, VolumeDriver
from cnm.launcher.volumes.registry import Registry
from cnm.launcher.volumes.users import Users
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")


class Mounting:
    """Callers hold the volume's lock; users are ids of containers."""

    def __init__(self, drivers: Drivers, registry: Registry, users: Users) -> None:
        self._drivers = drivers
        self._registry = registry
        self._users = users

    def mount(self, volume: Volume, user: str) -> str:
        """The path of its content, in which no copy is half made. Raises CnmError."""
        driver = self._drivers.find(volume.driver)
        self._users.add(self._folder(volume.name), user, durable=driver is not self._drivers.local)
        try:
            path = driver.mount(volume.name, user)
            self.finish_copy(volume.name, path)
            return path
        except BaseException:
            self._give_up(driver, volume, user)
            raise

    def _give_up(self, driver: VolumeDriver, volume: Volume, user: str) -> None:
        """Why it was not mounted is what is told; a driver that does not unmount either is asked again by a sweep."""
        try:
            self._unmount(driver, volume, user)
        except CnmError as error:
            log.warning("%s", error)

    def unmount(self, volume: Volume, user: str) -> None:
        """Raises CnmError where the driver fails: it is to be tried again."""
        self._unmount(self._drivers.find(volume.driver), volume, user)

    def _unmount(self, driver: VolumeDriver, volume: Volume, user: str) -> None:
        driver.unmount(volume.name, user)
        self._users.drop(self._folder(volume.name), user)

    def users(self, name: str) -> list[str]:
        """Those who have it mounted now."""
        return self._users.of(self._folder(name))

    def last_use(self, name: str) -> int:
        """When somebody mounted or unmounted it last, nanoseconds since 1970; 0 for never."""
        return self._users.last_use(self._folder(name))

    def _folder(self, name: str) -> str:
        return os.path.basename(self._registry.folder(name))

    # Filled

    def may_be_empty(self, volume: Volume) -> bool:
        """As far as that can be seen without mounting it."""
        if volume.driver != LOCAL or self.is_copied_in_part(volume.name):
            return True
        try:
            return not os.listdir(self._drivers.local.path(volume.name))
        except OSError:
            return True

    def copy_up(self, name: str, source: int, path: str) -> bool:
        """What is in the directory of the descriptor `source`; False where it was not empty. Raises CnmError."""
        return copy_up.copy_up(source, path, self._note(name))

    def is_copied_in_part(self, name: str) -> bool:
        return copy_up.is_interrupted(self._note(name))

    def finish_copy(self, name: str, path: str) -> None:
        """What a kill left of one. Raises CnmError."""
        if self.is_copied_in_part(name):
            log.info("volume %s: the copy of the image's files is settled", name)
            copy_up.finish(path, self._note(name))

    def _note(self, name: str) -> str:
        return os.path.join(self._registry.folder(name), "copying-up")
