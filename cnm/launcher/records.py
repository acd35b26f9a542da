"""Containers on the disk: one JSON file each, replaced whole, so that a kill leaves the old one or the new one."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator

import msgspec

from cnm.errors import CnmError
from cnm.launcher.container import Container
from cnm.launcher.places import Places

log = logging.getLogger("cnm.launcher")

_NAME = "container.json"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Container).decode


class Records:
    """Not thread-safe for one container: its lock is held by whoever writes."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def all(self) -> Iterator[Container]:
        """What was kept. A folder without a record is what a kill left of a creation: it goes."""
        for ident in sorted(os.listdir(self._places.containers)):
            path = os.path.join(self._places.container(ident), _NAME)
            try:
                with open(path, "rb") as file:
                    yield _decode(file.read())
            except FileNotFoundError:
                log.info("container %s was never made: what there is of it goes", ident[:12])
                shutil.rmtree(self._places.container(ident), ignore_errors=True)
            except (OSError, msgspec.DecodeError) as error:
                log.error("container %s cannot be read and is left alone: %s", ident[:12], error)

    def write(self, container: Container, *, durable: bool = False) -> None:
        """`durable`: it is on the disk when this returns. Raises CnmError."""
        path = os.path.join(self._places.container(container.id), _NAME)
        try:
            with open(f"{path}.new", "wb") as file:
                file.write(_encode(container))
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.rename(f"{path}.new", path)
        except OSError as error:
            raise CnmError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}") from None

    def delete(self, ident: str) -> None:
        """The whole folder; the record first, so that what a kill leaves is no container."""
        place = self._places.container(ident)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(place, _NAME))
        shutil.rmtree(place, ignore_errors=True)
