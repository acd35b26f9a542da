"""Volumes on the disk: a folder each, with the content, the restore points, and who has it mounted.

    ROOT/volumes/NAME/record.json     when it was made, who has it mounted
    ROOT/volumes/NAME/data            the content
    ROOT/volumes/NAME/points/POINT    record.json and data of a restore point
    ROOT/staging                      what is being made or taken apart

Two locks, since a copy takes long and a mount must not: the volume's folder is held by whoever works on the content,
exclusively by whoever replaces it, or must not have it changed; its folder of points while the record changes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound, Unavailable
from cnm.plugin.snapshots.locks import PATIENCE, locked
from cnm.plugin.snapshots.mounted import is_mounted
from cnm.plugin.snapshots.programs import size_of
from cnm.plugin.snapshots.record import VolumeRecord, flush_names, now, read, write
from cnm.plugin.snapshots.staging import Staging

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_LONGEST = 200
_MODE = 0o711
"""Containers with users of their own pass through to the content, and nobody looks around."""

Fill = Callable[[str], None]
"""Makes the content of a volume at a path where nothing is yet."""


class Volume(NamedTuple):
    """As it was when it was looked at."""

    name: str
    folder: str
    record: VolumeRecord
    fault: str = ""
    """Why its record cannot be read: it is only shown then, and removed by force."""

    @property
    def data(self) -> str:
        return os.path.join(self.folder, "data")

    @property
    def points(self) -> str:
        return os.path.join(self.folder, "points")

    def point_names(self) -> list[str]:
        """None of a volume that is gone meanwhile."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self.points))
        return []

    def size(self) -> int:
        """Bytes of the content on the disk."""
        return size_of(self.data)


def check_name(what: str, name: str) -> None:
    """Docker's rule for names of volumes. Raises InvalidParameter; `what` is "volume" or the like."""
    if not _NAME.match(name) or len(name) > _LONGEST:
        raise InvalidParameter(
            f"invalid {what} name {name[:40]!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, "
            f"{_LONGEST} characters at most"
        )


class Volumes:
    """Used by any number of threads and processes at a time."""

    def __init__(self, root: str, patience: float = PATIENCE) -> None:
        """`patience` are the seconds for which a volume is waited for that is being copied. Raises CnmError."""
        self._root = os.path.join(root, "volumes")
        self._patience = patience
        staging = os.path.join(root, "staging")
        for folder in (root, self._root, staging):
            _make(folder)
        self.staging = Staging(staging)

    def recover(self) -> None:
        """Take away what a kill left half-made, put back what it left half-replaced."""
        self.staging.sweep()
        for name in os.listdir(self._root):
            with suppress(InvalidParameter, NotFound, Unavailable):
                self._put_back(name)

    def all(self) -> list[Volume]:
        """Sorted by name, those with a fault too."""
        found = []
        for name in sorted(os.listdir(self._root)):
            with suppress(NotFound, InvalidParameter):  # gone meanwhile, or no volume's folder
                found.append(self.look(name))
        return found

    def look(self, name: str) -> Volume:
        """For who only shows it: one whose record cannot be read, or is gone, has a fault. Raises NotFound."""
        folder = self._folder(name)
        try:
            return self.get(name)
        except NotFound:
            if not os.path.isdir(folder):
                raise
            why = f"{folder} has no record"
        except CnmError as error:
            why = str(error)
        fault = (
            f"{why}: put a record back that can be read, or remove the volume with "
            f"cnm-volume-snapshots rm --force {name}"
        )
        return Volume(name, folder, VolumeRecord(created=""), fault)

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        folder = self._folder(name)
        try:
            record = read(folder, VolumeRecord)
        except FileNotFoundError:
            raise NotFound(f"no such volume: {name}") from None
        if record.doubted and not _is_mounted(name):
            record = record.without(*record.doubted)
        return Volume(name, folder, record)

    def create(self, name: str, fill: Fill = os.mkdir) -> bool:
        """With the content that `fill` makes. One that is there already is left as it is: False."""
        target = self._folder(name)
        if os.path.isdir(target):
            return False
        with worded(f"volume {name}"), self.staging.folder() as staged:
            folder = os.path.join(staged, "volume")
            os.mkdir(folder, _MODE)
            os.mkdir(os.path.join(folder, "points"), _MODE)
            fill(os.path.join(folder, "data"))
            write(folder, VolumeRecord(created=now()))
            try:
                os.rename(folder, target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                return False
            flush_names(self._root)
            return True

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises NotFound; Conflict while somebody has it mounted, or while it has restore points.

        Also for one with a fault, which goes with `force` only.
        """
        with self.unread(name) as volume, self.staging.folder() as staged:
            if not force:
                _check(volume)
            _check_unused(volume)
            if points := volume.point_names():
                raise Conflict(
                    f"volume {name} has restore points ({', '.join(points)}): "
                    f"delete them first, with cnm-volume-snapshots point rm {name} POINT..."
                )
            os.rename(volume.folder, os.path.join(staged, "volume"))
            flush_names(self._root)

    def mount(self, name: str, user: str) -> str:
        """The path of the content, which stays what it is until `unmount`. Raises NotFound."""
        with self.reading(name) as volume:
            self._change(volume, lambda record: record.counted(user, 1))
            return volume.data

    def unmount(self, name: str, user: str) -> None:
        """One mount of this user's; without any that is fine. Raises NotFound."""
        with self.reading(name) as volume:
            self._change(volume, lambda record: record.counted(user, -1))

    def forget(self, name: str, user: str) -> None:
        """All mounts of a user who is gone. Raises NotFound, also for a user without any."""
        with self.reading(name) as volume:
            if user not in volume.record.users:
                raise NotFound(f"volume {name} is not mounted by {user}")
            self._change(volume, lambda record: record.without(user))

    def doubt_users(self) -> None:
        """Whoever has a volume now has it only for as long as the kernel shows that somebody does."""
        for volume in self.all():
            if volume.record.users:
                with suppress(FileNotFoundError, NotFound, Unavailable):  # gone meanwhile
                    self._change(volume, VolumeRecord.with_doubts)

    def _change(self, volume: Volume, changed: Callable[[VolumeRecord], VolumeRecord]) -> None:
        with locked(volume.points, f"volume {volume.name}", seconds=self._patience):
            write(volume.folder, changed(self.get(volume.name).record))

    @contextmanager
    def reading(self, name: str) -> Iterator[Volume]:
        """The volume stays, and its content is not replaced. Raises NotFound, Unavailable."""
        with self._held(name, self.get, exclusive=False) as volume:
            yield volume

    @contextmanager
    def replacing(self, name: str, hint: str = "") -> Iterator[Volume]:
        """Nobody else does anything with it. Raises NotFound, Unavailable, Conflict where it is mounted or faulty."""
        with self.unread(name) as volume:
            _check(volume)
            _check_unused(volume, hint)
            yield volume

    @contextmanager
    def unread(self, name: str) -> Iterator[Volume]:
        """Nothing of it is being copied, though it may be mounted, or have a fault. Raises NotFound, Unavailable."""
        with self._held(name, self.look, exclusive=True) as volume:
            yield volume

    def replace(self, volume: Volume, data: str) -> None:
        """`data`, which is staged, becomes the content of a volume that is held for it; the old one goes."""
        replaced = _replaced(volume.folder)
        os.rename(volume.data, replaced)
        os.rename(data, volume.data)
        flush_names(volume.folder)
        self._discard(replaced)

    @contextmanager
    def _held(self, name: str, found: Callable[[str], Volume], *, exclusive: bool) -> Iterator[Volume]:
        with worded(f"volume {name}"):
            self._put_back(name)
            with self._lock(name, exclusive=exclusive):
                yield found(name)

    @contextmanager
    def _lock(self, name: str, *, exclusive: bool) -> Iterator[None]:
        about = f"volume {name}"
        with ExitStack() as held:
            try:
                held.enter_context(
                    locked(self._folder(name), about, exclusive=exclusive, seconds=self._patience)
                )
            except FileNotFoundError:
                raise NotFound(f"no such volume: {name}") from None
            yield

    def _put_back(self, name: str) -> None:
        """What a kill left of `replace`: without the new content the old one is it, with the new one it goes."""
        folder = self._folder(name)
        replaced, data = _replaced(folder), os.path.join(folder, "data")
        if not os.path.isdir(replaced):
            return
        with self._lock(name, exclusive=True):
            if not os.path.isdir(replaced):
                return
            if os.path.isdir(data):
                self._discard(replaced)
            else:
                os.rename(replaced, data)

    def _discard(self, path: str) -> None:
        with self.staging.folder() as staged:
            os.rename(path, os.path.join(staged, "discarded"))

    def _folder(self, name: str) -> str:
        check_name("volume", name)
        return os.path.join(self._root, name)


def _check(volume: Volume) -> None:
    if volume.fault:
        raise Conflict(f"volume {volume.name}: {volume.fault}")


def _check_unused(volume: Volume, hint: str = "") -> None:
    """`hint` is what else there is to do. Where the record cannot say who has it, the kernel is asked."""
    name = volume.name
    if users := volume.record.users:
        raise Conflict(
            f"volume {name} is in use - [{', '.join(users)}]: stop the containers first{hint}; "
            f"a user that is gone is forgotten by: cnm-volume-snapshots unmount {name} USER"
        )
    if volume.fault and _is_mounted(name):
        raise Conflict(f"volume {name} is mounted: stop the containers first")


def _is_mounted(name: str) -> bool:
    return is_mounted(f"/volumes/{name}/data")


def _replaced(folder: str) -> str:
    return os.path.join(folder, "replaced")


@contextmanager
def worded(about: str) -> Iterator[None]:
    """What the system refuses is one line: a full disk, a file system that is read-only."""
    try:
        yield
    except OSError as error:
        raise CnmError(f"{about}: {(error.strerror or str(error)).lower()}") from error


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, _MODE, exist_ok=True)
    except OSError as error:
        raise CnmError(
            f"cannot make {folder}: {(error.strerror or '').lower()}: give another --root"
        ) from None
