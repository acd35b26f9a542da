"""A volume goes: unmounted for whoever has left, removed by its driver, and then its record."""

from __future__ import annotations

import logging

from cnm.errors import CnmError, Conflict, Unavailable
from cnm.launcher.volumes.drivers import LOCAL, Drivers
from cnm.launcher.volumes.mounting import Mounting
from cnm.launcher.volumes.registry import Registry
from cnm.launcher.volumes.sharing import Sharing
from cnm.launcher.volumes.use import Use
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

_REMOVER = "removal"
"""Who mounts what is to be removed."""


class Removing:
    """Callers hold the volume's lock."""

    def __init__(
        self, registry: Registry, drivers: Drivers, mounting: Mounting, sharing: Sharing, use: Use
    ) -> None:
        self._registry = registry
        self._drivers = drivers
        self._mounting = mounting
        self._sharing = sharing
        self._use = use

    def remove(self, volume: Volume, *, force: bool) -> None:
        """Raises Conflict where a container has it, CnmError.

        With `force` one whose driver fails is no more known here, and one that has a fault goes with whatever is in
        its folder.
        """
        name = volume.name
        if users := self._use.of(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        if not force:
            self._registry.check(volume)
        if self._registry.fault(name):
            self._registry.delete(volume)
            return
        with self._sharing.removing(volume, force=force):
            self._remove(volume, force=force and volume.driver != LOCAL)

    def hand_over(self, volume: Volume) -> None:
        """It is on another host, and goes here. Raises CnmError."""
        if self._registry.fault(volume.name):
            self._registry.delete(volume)
        else:
            self._remove(volume, force=False)

    def _remove(self, volume: Volume, *, force: bool) -> None:
        """With `force` also where its driver fails. Raises CnmError."""
        try:
            self._unmount_left(volume, force=force)
            self._drivers.find(volume.driver).remove(volume.name, force=force)
        except CnmError as error:
            if not force:
                raise
            log.warning("volume %s is forgotten, though its driver fails: %s", volume.name, error)
        self._registry.delete(volume)

    def _unmount_left(self, volume: Volume, *, force: bool) -> None:
        """For containers that are gone, when the driver could not be told. Raises CnmError.

        With `force` one that refuses is asked to remove it nevertheless; one that is away is not waited for again.
        """
        if self._mounting.is_copied_in_part(volume.name):
            self._finish_copy(volume)
        for user in self._mounting.users(volume.name):
            try:
                self._mounting.unmount(volume, user)
            except CnmError as error:
                if force and not isinstance(error, Unavailable):
                    log.warning("%s", error)
                    continue
                raise type(error)(f"remove {volume.name}: {error}") from None

    def _finish_copy(self, volume: Volume) -> None:
        """What its options or a plugin mount may stay when the volume goes, and is to be as it was."""
        try:
            self._mounting.mount(volume, _REMOVER)
        except CnmError as error:
            log.warning("volume %s: %s", volume.name, error)
