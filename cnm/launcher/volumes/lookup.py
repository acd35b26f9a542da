"""Where a volume is looked for: among this host's records, at its drivers, and at the other hosts of the cluster."""

from __future__ import annotations

import contextlib

from cnm.errors import CnmError, NotFound
from cnm.launcher.volumes.drivers import LOCAL, Drivers, Scope
from cnm.launcher.volumes.listing import of_driver
from cnm.launcher.volumes.named_locks import NamedLocks
from cnm.launcher.volumes.other_hosts import OtherHosts
from cnm.launcher.volumes.registry import Registry
from cnm.launcher.volumes.use import Use
from cnm.launcher.volumes.volume import Volume


class Lookup:
    """Thread-safe."""

    def __init__(
        self, registry: Registry, drivers: Drivers, others: OtherHosts, use: Use, locked: NamedLocks
    ) -> None:
        self._registry = registry
        self._drivers = drivers
        self._others = others
        self._use = use
        self._locked = locked

    def find(self, name: str) -> Volume:
        """Also one that only its driver knows of. Raises NotFound in Docker's words."""
        known = self._registry.get(name)
        if known is not None and not self._has_gone_elsewhere(known):
            return known
        for driver in self._drivers.known():
            with contextlib.suppress(CnmError):
                return self._others.described(of_driver(driver, driver.get(name)))
        if (found := self._others.find(name)) is not None:
            return found
        raise NotFound(f"get {name}: no such volume")

    def _has_gone_elsewhere(self, volume: Volume) -> bool:
        """Whether another host has removed it; its record here goes then."""
        if volume.scope is not Scope.GLOBAL or not self.is_gone(volume):
            return False
        self.forget(volume)
        return True

    # Those that have a record

    def is_gone(self, volume: Volume) -> bool:
        """Whether its driver knows nothing of it, and no container has it; as Docker finds out, too."""
        if volume.driver == LOCAL or self._use.of(volume.name):
            return False
        try:
            keeper = self._drivers.find(volume.driver)
        except CnmError:
            return False
        with contextlib.suppress(CnmError):
            try:
                keeper.get(volume.name)
            except NotFound:
                return all(kept.name != volume.name for kept in keeper.list())
        return False

    def forget(self, volume: Volume) -> None:
        """Unless it has been made anew, or taken, since it was looked at. Raises CnmError."""
        with self._locked(volume.name):
            if self._registry.get(volume.name) is volume and not self._use.of(volume.name):
                self._registry.delete(volume)

    # Those that have none

    def reach(self, name: str, driver: str) -> Volume | None:
        """One that this host can have a record of from now on; without a driver that of any, as with Docker.

        None where it is to be made. Raises CnmError.
        """
        if driver == LOCAL:
            return None
        if driver:
            with contextlib.suppress(NotFound):
                wanted = self._drivers.find(driver)
                return self._others.described(of_driver(wanted, wanted.get(name)))
            return self._of_cluster(name, driver)
        for each in self._drivers.known()[1:]:
            with contextlib.suppress(CnmError):
                return self._others.described(of_driver(each, each.get(name)))
        return self._of_cluster(name, driver)

    def _of_cluster(self, name: str, driver: str) -> Volume | None:
        """One that another host has made, of which this host's plugin has to be told: it has a list of its own."""
        found = self._others.find(name)
        if found is None or driver not in ("", found.driver):
            return None
        self._drivers.find(found.driver).create(name, found.options or {})
        return found
