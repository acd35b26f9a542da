"""Volumes on the disk: a folder each, with `volume.json` in it, which is replaced whole.

A folder goes by being renamed first, so that what a kill leaves of a removal is known for that. One without a record
and without content is what a kill left of a creation; with content it is somebody's data, and becomes a volume.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from urllib.parse import quote, unquote

import msgspec

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.deleting import delete
from cnm.launcher.volumes.mounted import mounts_below
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

_RECORD, _GOING = "volume.json", ".going-"
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


class Records:
    """Not thread-safe for one volume: its lock is held by whoever writes."""

    def __init__(self, place: str) -> None:
        self._place = place

    def all(self) -> Iterator[Volume]:
        """What was kept. One that cannot be read is left alone."""
        for folder in sorted(os.listdir(self._place)):
            path = os.path.join(self._place, folder)
            try:
                if folder.startswith(_GOING):
                    _delete(path)
                elif folder.startswith("."):
                    continue  # what arrives from another host: no volume's folder begins so
                elif found := self._read(path, folder):
                    yield found
            except (OSError, msgspec.DecodeError, CnmError) as error:
                log.error("volume %s cannot be read and is left alone: %s", folder, error)

    def _read(self, path: str, folder: str) -> Volume | None:
        try:
            with open(os.path.join(path, _RECORD), "rb") as file:
                return _decode(file.read())
        except FileNotFoundError:
            return self._without_record(path, unquote(folder))

    def _without_record(self, path: str, name: str) -> Volume | None:
        content = os.path.join(path, "_data")
        if os.path.isdir(content) and os.listdir(content):
            log.warning("volume %s has content and no record: it gets one", name)
            return self.write(Volume(name=name, created=time.time_ns()))
        log.info("volume %s was not made wholly: its folder goes", name)
        _delete(path)
        return None

    def write(self, volume: Volume) -> Volume:
        """It is on the disk when this returns. Raises CnmError."""
        return self._write(volume, os.path.join(self._place, folder_of(volume.name)))

    def _write(self, volume: Volume, path: str) -> Volume:
        try:
            os.makedirs(path, mode=0o711, exist_ok=True)
            target = os.path.join(path, _RECORD)
            with open(f"{target}.new", "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # there may be passwords among the options
                file.write(msgspec.json.encode(volume))
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{target}.new", target)
            for folder in (path, self._place):
                flush(folder)
        except OSError as error:
            raise CnmError(
                f"create {volume.name}: {error.filename}: {(error.strerror or '').lower()}"
            ) from None
        return volume

    def take_in(self, volume: Volume, folder: str) -> None:
        """A folder in the place, whose name begins with a dot, with the volume's content in it, becomes the volume's.

        It is one step, and on the disk when this returns. Raises CnmError.
        """
        path = os.path.join(self._place, folder)
        self._write(volume, path)
        try:
            os.rename(path, os.path.join(self._place, folder_of(volume.name)))
            flush(self._place)
        except OSError as error:
            raise CnmError(f"create {volume.name}: {path}: {(error.strerror or '').lower()}") from None

    def delete(self, name: str) -> None:
        """The folder, with whatever is left in it; nothing there is fine. Raises CnmError."""
        folder = folder_of(name)
        going = os.path.join(self._place, f"{_GOING}{time.time_ns():x}")
        try:
            os.rename(os.path.join(self._place, folder), going)
            flush(self._place)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CnmError(f"remove {name}: {error.filename}: {(error.strerror or '').lower()}") from None
        _delete(going)


def _delete(path: str) -> None:
    """Raises CnmError; what is mounted in it is never deleted."""
    if found := mounts_below(path):
        raise CnmError(f"{found[0]} is a mount: unmount it first")
    try:
        delete(path)
    except OSError as error:
        raise CnmError(f"remove {error.filename}: {(error.strerror or '').lower()}") from None


def flush(folder: str) -> None:
    """A name in a folder is on the disk when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
