"""All volumes: those that are recorded here, and those that drivers tell of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cnm.errors import CnmError
from cnm.launcher.volumes.drivers import LOCAL, Drivers, Kept, VolumeDriver
from cnm.launcher.volumes.volume import Volume


class Listed(NamedTuple):
    volumes: list[Volume]
    """By name."""
    paths: dict[str, str]
    """Where drivers say that their content is, by name."""
    warnings: list[str]
    """Of drivers that are away, or do not answer."""
    statuses: dict[str, Mapping[str, Any]]
    """What drivers say beside that, for people to read, by name; "Error" where something is wrong."""


def listed(
    recorded: Mapping[str, Volume],
    drivers: Drivers,
    fault: Callable[[str], str],
    path: Callable[[Volume], str],
) -> Listed:
    """Each driver is asked once. `fault` is by name; `path` is that of a local volume."""
    found = dict(recorded)
    told: dict[str, Kept] = {}
    failures = _away({volume.driver for volume in found.values()})
    for driver in drivers.known()[1:]:
        failures.pop(driver.name, None)
        try:
            for kept in driver.list():
                if found.setdefault(kept.name, of_driver(driver, kept)).driver == driver.name:
                    told[kept.name] = kept
        except CnmError as error:
            failures[driver.name] = str(error)
    paths: dict[str, str] = {}
    statuses: dict[str, Mapping[str, Any]] = {}
    for name, volume in found.items():
        if wrong := fault(name) or failures.get(volume.driver, ""):
            statuses[name] = {"Error": wrong}
        if volume.driver == LOCAL:
            paths[name] = path(volume)
        elif name in told:
            paths[name] = told[name].mountpoint
            statuses.setdefault(name, told[name].status)
    return Listed([found[name] for name in sorted(found)], paths, list(failures.values()), statuses)


def _away(names: set[str]) -> dict[str, str]:
    """What is to be said of drivers that have volumes, and are not found."""
    return {
        name: f"plugin {name} is not there, or does not answer: its volumes are listed as they were made"
        for name in sorted(names - {LOCAL})
    }


def of_driver(driver: VolumeDriver, kept: Kept) -> Volume:
    return Volume(name=kept.name, driver=driver.name, scope=driver.scope)
