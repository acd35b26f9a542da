"""Containers on the disk, in two JSON files each, replaced whole, so that a kill leaves the old one or the new one.

`container.json` is what must not be lost, and is on the disk before anybody is answered. `state.json` is how the
container stands: it changes with each start and end, and does not wait for the disk. After a power cut it may be an
older one, or empty: `container.json` has the state of when that was written, and what ran runs no longer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator

import msgspec

from cnm.errors import CnmError
from cnm.launcher.container import Container, State
from cnm.launcher.places import Places

log = logging.getLogger("cnm.launcher")

_CONTAINER, _STATE = "container.json", "state.json"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Container).decode
_decode_state = msgspec.json.Decoder(State).decode


class Records:
    """Not thread-safe for one container: its lock is held by whoever writes."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def all(self) -> Iterator[Container]:
        """What was kept. A folder without a record is what a kill left of a creation, or of a removal: it goes."""
        for ident in sorted(os.listdir(self._places.containers)):
            try:
                yield self._read(ident)
            except FileNotFoundError:
                log.info("container %s was not made wholly, or not removed: its folder goes", ident[:12])
                shutil.rmtree(self._places.container(ident), ignore_errors=True)
            except (OSError, msgspec.DecodeError) as error:
                log.error("container %s cannot be read and is left alone: %s", ident[:12], error)

    def _read(self, ident: str) -> Container:
        with open(self._path(ident, _CONTAINER), "rb") as file:
            container = _decode(file.read())
        try:
            with open(self._path(ident, _STATE), "rb") as file:
                return msgspec.structs.replace(container, state=_decode_state(file.read()))
        except FileNotFoundError:
            return container
        except (OSError, msgspec.DecodeError) as error:
            log.warning("container %s: its last state is lost: %s", ident[:12], error)
            return container

    def _path(self, ident: str, name: str) -> str:
        return os.path.join(self._places.container(ident), name)

    def write(self, container: Container) -> None:
        """It is on the disk when this returns. Raises CnmError."""
        self._replace(self._path(container.id, _CONTAINER), _encode(container), durable=True)

    def write_state(self, container: Container) -> None:
        """A kill of the launcher does not lose it, a power cut may. Raises CnmError."""
        self._replace(self._path(container.id, _STATE), _encode(container.state), durable=False)

    def _replace(self, path: str, content: bytes, *, durable: bool) -> None:
        try:
            with open(f"{path}.new", "wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.rename(f"{path}.new", path)
            if durable:
                _flush_names(os.path.dirname(path))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(f"{path}.new")
            raise CnmError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}") from None

    def delete(self, ident: str) -> None:
        """The whole folder; the record first, so that what a kill leaves is no container."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(ident, _CONTAINER))
        shutil.rmtree(self._places.container(ident), ignore_errors=True)


def _flush_names(folder: str) -> None:
    """A file's new name is on the disk when its folder is; a journal has what came before, so the folder's own too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
