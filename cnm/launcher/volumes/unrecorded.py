"""Volumes of which this host has no record: its drivers may know them, or the other hosts of the cluster."""

from __future__ import annotations

import contextlib

from cnm.errors import CnmError, NotFound
from cnm.launcher.volumes.drivers import LOCAL, Drivers
from cnm.launcher.volumes.listing import of_driver
from cnm.launcher.volumes.other_hosts import OtherHosts
from cnm.launcher.volumes.volume import Volume


class Unrecorded:
    def __init__(self, drivers: Drivers, others: OtherHosts) -> None:
        self._drivers = drivers
        self._others = others

    def find(self, name: str) -> Volume | None:
        """As whoever knows it tells of it."""
        for driver in self._drivers.known():
            with contextlib.suppress(CnmError):
                return self._others.described(of_driver(driver, driver.get(name)))
        return self._others.find(name)

    def reach(self, name: str, driver: str) -> Volume | None:
        """One that this host can use from now on; without a driver that of any, as with Docker. Raises CnmError."""
        if driver not in ("", LOCAL):
            with contextlib.suppress(NotFound):
                wanted = self._drivers.find(driver)
                return self._others.described(of_driver(wanted, wanted.get(name)))
            return self._of_cluster(name, driver)
        if driver:
            return None
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

    def is_gone(self, volume: Volume) -> bool:
        """Whether its driver, which answers, knows nothing of one that has a record."""
        if volume.driver == LOCAL:
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
