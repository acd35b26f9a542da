"""Restore points: copies of a volume's content by name, and the content put back from them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cnm.errors import Conflict, NotFound
from cnm.plugin.snapshots.programs import copy_tree, size_of
from cnm.plugin.snapshots.record import PointRecord, flush_names, now, read, write
from cnm.plugin.snapshots.volumes import Fill, Volume, Volumes, check_name

LIVE = ", or say --live, and what is written meanwhile may be half new"


class Point(NamedTuple):
    name: str
    record: PointRecord


class Source(NamedTuple):
    """What is copied, or put into an archive: `point` is "" for the content as it is now."""

    volume: str
    point: str

    def __str__(self) -> str:
        return f"{self.volume}@{self.point}" if self.point else self.volume


def parse_source(text: str) -> Source:
    """VOLUME or VOLUME@POINT. Raises InvalidParameter."""
    volume, separator, point = text.partition("@")
    check_name("volume", volume)
    if separator:
        check_name("restore point", point)
    return Source(volume, point)


class RestorePoints:
    """Of all volumes. Everything raises NotFound for a volume or a point that is not there."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def create(self, name: str, point: str, *, live: bool = False) -> None:
        """A copy of the content. `live`: also while somebody may write to it, so that a file may be half new.

        Raises Conflict for a name that is taken, and for a volume that is mounted where that is not asked for.
        """
        check_name("restore point", point)
        with self.content(Source(name, ""), live=live, hint=LIVE) as data:
            target = os.path.join(self._volumes.get(name).points, point)
            _refuse_taken(name, point, target)
            with self._volumes.staging.folder() as staged:
                copied = os.path.join(staged, "data")
                copy_tree(data, copied, f"volume {name}")
                write(staged, PointRecord(created=now(), size=size_of(copied)))
                _refuse_taken(name, point, target)
                os.rename(staged, target)
                flush_names(os.path.dirname(target))

    def all(self, name: str) -> list[Point]:
        """In the order in which they were made."""
        volume = self._volumes.get(name)
        found = [Point(point, read(_folder(volume, point), PointRecord)) for point in volume.point_names()]
        return sorted(found, key=lambda each: (each.record.created, each.name))

    def restore(self, name: str, point: str) -> None:
        """The content is what it was. Raises Conflict while the volume is mounted."""
        with self._volumes.replacing(name) as volume, self._volumes.staging.folder() as staged:
            copied = os.path.join(staged, "data")
            copy_tree(os.path.join(_existing(volume, point), "data"), copied, f"volume {name}")
            self._volumes.replace(volume, copied)

    def delete(self, name: str, points: Iterable[str]) -> None:
        """All of them or none. One that is being copied is waited for."""
        with self._volumes.unread(name) as volume, self._volumes.staging.folder() as staged:
            folders = [_existing(volume, point) for point in dict.fromkeys(points)]
            for folder in folders:
                os.rename(folder, os.path.join(staged, os.path.basename(folder)))
            flush_names(volume.points)

    def copied_from(self, source: Source) -> Fill:
        """What makes the content of a new volume, for `Volumes.create`. Raises Conflict while the source is mounted."""

        def fill(target: str) -> None:
            with self.content(source, live=False) as data:
                copy_tree(data, target, f"volume {source.volume}")

        return fill

    @contextmanager
    def content(self, source: Source, *, live: bool, hint: str = "") -> Iterator[str]:
        """The folder with a source's content, which stays what it is while the block lasts.

        Raises Conflict for a volume that is mounted, unless it may change meanwhile (`live`).
        """
        if live or source.point:
            held = self._volumes.reading(source.volume)
        else:
            held = self._volumes.replacing(source.volume, hint)
        with held as volume:
            yield os.path.join(_existing(volume, source.point), "data") if source.point else volume.data


def _folder(volume: Volume, point: str) -> str:
    check_name("restore point", point)
    return os.path.join(volume.points, point)


def _existing(volume: Volume, point: str) -> str:
    folder = _folder(volume, point)
    if not os.path.isdir(folder):
        known = ", ".join(volume.point_names()) or "none"
        raise NotFound(f"volume {volume.name} has no restore point {point}: it has {known}")
    return folder


def _refuse_taken(name: str, point: str, path: str) -> None:
    if os.path.exists(path):
        raise Conflict(f"volume {name} has a restore point {point} already: choose another name")
