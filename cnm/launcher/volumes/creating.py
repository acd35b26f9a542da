"""A volume is made, or the one that has the name is taken as it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from cnm.errors import CnmError, Conflict, NotFound
from cnm.launcher.volumes.drivers import Drivers, VolumeDriver
from cnm.launcher.volumes.lookup import Lookup
from cnm.launcher.volumes.registry import Registry
from cnm.launcher.volumes.sharing import Sharing
from cnm.launcher.volumes.volume import ANONYMOUS, Volume

log = logging.getLogger("cnm.launcher")

Texts = Mapping[str, str] | None
"""Options or labels; None where none were given."""


class Creating:
    """Callers hold the volume's lock."""

    def __init__(self, registry: Registry, drivers: Drivers, lookup: Lookup, sharing: Sharing) -> None:
        self._registry = registry
        self._drivers = drivers
        self._lookup = lookup
        self._sharing = sharing

    def create(self, name: str, driver: str, options: Texts, labels: Texts) -> tuple[Volume, bool]:
        """The volume, and whether it is new. An anonymous one's name was just made up, so nobody has it.

        Raises Conflict where another driver has the name; InvalidParameter, NotFound for what cannot be.
        """
        if found := self._existing(name, driver, is_anonymous=ANONYMOUS in (labels or {})):
            return found, False
        return self._made(name, driver, options, labels), True

    def _existing(self, name: str, driver: str, *, is_anonymous: bool) -> Volume | None:
        known = self._registry.get(name) or self._registry.take_up(name)
        if known is None:
            return None if is_anonymous else self._elsewhere(name, driver)
        self._registry.check(known)
        if self._lookup.is_gone(known):
            log.warning("volume %s: driver %s has it no more", name, known.driver)
            self._lookup.forget(known)
            return self._elsewhere(name, driver)
        if driver not in ("", known.driver):
            self._drivers.find(driver)
            raise Conflict(
                f"create {name}: driver '{known.driver}' already has volume '{name}': volume name must be unique"
            )
        return known

    def _elsewhere(self, name: str, driver: str) -> Volume | None:
        """One that another host has made, or that was made at its driver: this host has a record of it from now on."""
        found = self._lookup.reach(name, driver)
        return self._registry.keep(found) if found else None

    def _made(self, name: str, driver: str, options: Texts, labels: Texts) -> Volume:
        try:
            keeper = self._drivers.find(driver)
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
            self._registry.add(volume)
        except BaseException:
            self._undo(keeper, name)
            raise
        self._sharing.made(volume)
        return volume

    def _undo(self, keeper: VolumeDriver, name: str) -> None:
        """Why it could not be made is what is told."""
        try:
            if keeper is not self._drivers.local:
                keeper.remove(name)
            self._registry.undo(name)
        except CnmError as error:
            log.warning("of volume %s, which could not be made, something is left: %s", name, error)
