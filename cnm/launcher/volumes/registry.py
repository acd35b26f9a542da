"""The volumes of which this host has a record, in memory and on the disk; who listens hears which come and go."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from cnm.errors import CnmError, Conflict
from cnm.events import EventBus
from cnm.launcher.volumes.records import Records
from cnm.launcher.volumes.volume import Volume


class LeftBehind(CnmError):
    """The volume is gone; of its files something is left, which is listed."""


class Registry:
    """Thread-safe; whoever changes a volume holds its lock."""

    def __init__(self, place: str, events: EventBus) -> None:
        self._records = Records(place)
        self._events = events
        self._guard = threading.Lock()
        self._volumes: dict[str, Volume] = {}

    def load(self) -> None:
        """What was kept."""
        for volume in self._records.all():
            self._remember(volume)

    # Looked at

    def get(self, name: str) -> Volume | None:
        with self._guard:
            return self._volumes.get(name)

    def all(self) -> dict[str, Volume]:
        """By name."""
        with self._guard:
            return dict(self._volumes)

    def options(self, name: str) -> Mapping[str, str]:
        """As its record has them; none before there is one."""
        known = self.get(name)
        return (known.options if known else None) or {}

    def folder(self, name: str) -> str:
        """Where its record is."""
        return self._records.path(name)

    def fault(self, name: str) -> str:
        """Why one that is listed can only be removed, and that by force; "" for one that is as it should be."""
        return self._records.fault(name)

    def check(self, volume: Volume) -> Volume:
        """Raises Conflict for one that has a fault."""
        if fault := self.fault(volume.name):
            raise Conflict(f"volume {volume.name}: {fault}")
        return volume

    # Changed

    def keep(self, volume: Volume) -> Volume:
        """One that was there before this host had a record of it. Raises CnmError."""
        self._records.write(volume)
        self._remember(volume)
        return volume

    def take_up(self, name: str) -> Volume | None:
        """One that somebody has put among the volumes since the start. Raises CnmError."""
        if (found := self._records.put_there(name)) is not None:
            self._remember(found)
        return found

    def add(self, volume: Volume) -> None:
        """One that is new. Raises CnmError."""
        self.keep(volume)
        self._tell("create", volume)

    def take_in(self, volume: Volume, folder: str) -> None:
        """One that came in a folder of the place whose name begins with a dot. Raises CnmError."""
        self._records.take_in(volume, folder)
        self._remember(volume)
        self._tell("create", volume)

    def _remember(self, volume: Volume) -> None:
        with self._guard:
            self._volumes[volume.name] = volume

    def delete(self, volume: Volume) -> None:
        """With its folder. Raises CnmError; `LeftBehind`."""
        aside = self._records.set_aside(volume.name)
        with self._guard:
            self._volumes.pop(volume.name, None)
        self._tell("destroy", volume)
        try:
            self._records.delete(aside)
        except CnmError as error:
            self._remember(Volume(name=aside))
            raise LeftBehind(f"remove {volume.name}: {error}: it is listed as {aside} now") from None

    def undo(self, name: str) -> None:
        """Of one that could not be added goes what was made of it; content stays. Raises CnmError."""
        self._records.undo(name)

    def _tell(self, action: str, volume: Volume) -> None:
        self._events.publish("volume", action, volume.name, driver=volume.driver)
