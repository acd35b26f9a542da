"""Volumes on the disk: a folder each, with `volume.json` in it, which is replaced whole.

A folder goes by being renamed first, so that what a kill leaves of a removal is known for that. One without a record
is deleted only where nothing is in it but what a kill leaves of a creation. With content it is somebody's data, and
becomes a volume; whatever else there is stays, and is shown with what is wrong with it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter
from cnm.launcher.deleting import delete
from cnm.launcher.disk import refusal
from cnm.launcher.volumes.mounted import mounts_below
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

_RECORD, _GOING, _DATA = "volume.json", ".going-", "_data"
_FILES, _FOLDERS = (f"{_RECORD}.new", "options.json"), (_DATA, "users")
"""All that a kill leaves of a creation."""
_WITHOUT = "to keep the content, remove the record and start cnm-launcher again"
_LONGEST = 255
"""Bytes of a file's name."""
_decode = msgspec.json.Decoder(Volume).decode


def folder_of(name: str) -> str:
    """A file's name for any volume's: itself where the local driver takes it. Raises InvalidParameter."""
    found = quote(name, safe="")
    if found.startswith("."):
        found = f"%2E{found[1:]}"
    if not name or len(found) > _LONGEST:
        raise InvalidParameter(f'create {name[:40]}: "{name[:40]}" is too long for the name of a volume')
    return found


class _Fault(NamedTuple):
    folder: str
    why: str


class Records:
    """Not thread-safe for one volume: its lock is held by whoever writes."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._faults: dict[str, _Fault] = {}

    def all(self) -> Iterator[Volume]:
        """What was kept, and what is left that is no whole volume: that has a `fault`."""
        for folder in sorted(os.listdir(self._place)):
            if os.path.isdir(os.path.join(self._place, folder)) and _is_ours(folder):
                if found := self._looked_at(folder):
                    yield found
            elif not folder.startswith("."):  # which is something that arrives from another host
                log.warning("%s/%s is no volume's: it is left alone", self._place, folder)

    def _looked_at(self, folder: str) -> Volume | None:
        if folder.startswith(_GOING):
            with suppress(CnmError):
                self.delete(folder)
                return None
            return Volume(name=folder)
        name = unquote(folder)
        try:
            return self._read(folder, name)
        except (OSError, CnmError) as error:
            return self._faulty(name, folder, str(error))

    def _read(self, folder: str, name: str) -> Volume | None:
        record = os.path.join(self._place, folder, _RECORD)
        try:
            with open(record, "rb") as file:
                found = _decode(file.read())
        except FileNotFoundError:
            return self._without_record(folder, name)
        except (OSError, msgspec.MsgspecError) as error:
            return self._faulty(name, folder, f"its record {record} cannot be read: {error}: {_WITHOUT}")
        if found.name != name:
            return self._faulty(
                name, folder, f"its record {record} is that of volume {found.name}: {_WITHOUT}"
            )
        return found

    def _without_record(self, folder: str, name: str) -> Volume | None:
        path = os.path.join(self._place, folder)
        content = os.path.join(path, _DATA)
        if _has_content(path):
            log.warning("volume %s has content and no record: it gets one", name)
            return self.write(Volume(name=name, created=time.time_ns()))
        if strange := [each.name for each in os.scandir(path) if not _is_of_a_creation(each)]:
            why = f"it has no record, but {', '.join(sorted(strange)[:3])} in {path}: move what is to be kept to "
            return self._faulty(name, folder, f"{why}{content}, and start cnm-launcher again")
        log.info("volume %s was not made wholly: its folder goes", name)
        _delete(path)
        return None

    def _faulty(self, name: str, folder: str, why: str) -> Volume:
        why = f"{why}; or remove it with docker volume rm --force {name}"
        log.error("volume %s: %s", name, why)
        self._faults[name] = _Fault(folder, why)
        return Volume(name=name)

    def put_there(self, name: str) -> Volume | None:
        """One that somebody has put there since the start, with its record or with content; that gets one, and stays
        as it is where it cannot. Raises CnmError."""
        folder = folder_of(name)
        path = os.path.join(self._place, folder)
        try:
            has_record = os.path.lexists(os.path.join(path, _RECORD))
            return self._read(folder, name) if has_record or _has_content(path) else None
        except OSError as error:
            raise CnmError(f"create {name}: {refusal(error, path)}") from None

    def fault(self, name: str) -> str:
        """Why a volume that is listed cannot be used, and what is to be done; "" for one that is as it should be."""
        return self._faults[name].why if name in self._faults else ""

    def path(self, name: str) -> str:
        """Of the volume's folder."""
        folder = self._faults[name].folder if name in self._faults else folder_of(name)
        return os.path.join(self._place, folder)

    def write(self, volume: Volume) -> Volume:
        """It is on the disk when this returns. Raises CnmError."""
        return self._write(volume, os.path.join(self._place, folder_of(volume.name)))

    def _write(self, volume: Volume, path: str) -> Volume:
        target = os.path.join(path, _RECORD)
        try:
            os.makedirs(path, mode=0o711, exist_ok=True)
            with open(f"{target}.new", "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # there may be passwords among the options
                file.write(msgspec.json.encode(volume))
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{target}.new", target)
            for folder in (path, self._place):
                flush(folder)
        except OSError as error:
            with suppress(OSError):
                os.unlink(f"{target}.new")
                os.rmdir(path)
            raise CnmError(f"create {volume.name}: {refusal(error, target)}") from None
        return volume

    def undo(self, name: str) -> None:
        """Of a creation that failed goes what it has made; what somebody else has put there stays. Raises CnmError."""
        path = self.path(name)
        try:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(path, _RECORD))
            for folder in (os.path.join(path, _DATA), path):
                with suppress(FileNotFoundError):
                    os.rmdir(folder)
        except OSError as error:
            raise CnmError(refusal(error, path)) from None

    def take_in(self, volume: Volume, folder: str) -> None:
        """A folder in the place, whose name begins with a dot, with the volume's content in it, becomes the volume's.

        It is one step, and on the disk when this returns. Raises CnmError.
        """
        path = os.path.join(self._place, folder)
        target = os.path.join(self._place, folder_of(volume.name))
        self._write(volume, path)
        try:
            os.rename(path, target)
            try:
                flush(self._place)
            except BaseException:
                os.rename(target, path)
                raise
        except OSError as error:
            raise CnmError(f"create {volume.name}: {refusal(error, path)}") from None

    def set_aside(self, name: str) -> str:
        """The volume is no more, after a power cut too: what `delete` is to be given. Raises CnmError, Conflict.

        "" where nothing is there.
        """
        path = self.path(name)
        if found := mounts_below(path):
            raise Conflict(f"remove {name}: {found[0]} is a mount: unmount it first")
        aside = os.path.basename(path)
        try:
            if not aside.startswith(_GOING):
                aside = f"{_GOING}{time.time_ns():x}"
                os.rename(path, os.path.join(self._place, aside))
                flush(self._place)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise CnmError(f"remove {name}: {refusal(error, path)}") from None
        self._faults.pop(name, None)
        return aside

    def delete(self, aside: str) -> None:
        """What was set aside; "" is fine. Raises CnmError: it has a fault from then on, and can be removed again."""
        if not aside:
            return
        try:
            _delete(os.path.join(self._place, aside))
        except CnmError as error:
            self._faulty(aside, aside, f"it is what is left of a removal, and cannot be deleted: {error}")
            raise


def _has_content(path: str) -> bool:
    content = os.path.join(path, _DATA)
    return os.path.isdir(content) and bool(os.listdir(content))


def _is_of_a_creation(entry: os.DirEntry[str]) -> bool:
    """Whether it is what a kill leaves of one, in which nobody has put anything."""
    if entry.is_dir(follow_symlinks=False):
        return entry.name in _FOLDERS
    return entry.is_file(follow_symlinks=False) and entry.name in _FILES


def _is_ours(folder: str) -> bool:
    """Whether a volume's folder would be called so; `lost+found` is not."""
    with suppress(CnmError, UnicodeError):
        return folder.startswith(_GOING) or folder_of(unquote(folder)) == folder
    return False


def _delete(path: str) -> None:
    """Raises CnmError; what is mounted in it is never deleted."""
    if found := mounts_below(path):
        raise CnmError(f"{found[0]} is a mount: unmount it first")
    try:
        delete(path)
    except OSError as error:
        raise CnmError(f"{path}: {refusal(error, path)}") from None


def flush(folder: str) -> None:
    """A name in a folder is on the disk when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
