"""Digests that registries call images by, kept beside the store, whose own names of images are tags.

One file, "REPOSITORY@DIGEST" to the id of the image. What it says of images that are gone is forgotten when it is
written the next time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from cnm.launcher.disk import disk_errors, drop_unfinished, replace

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(dict[str, str]).decode


class RepoDigests:
    """Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writing = threading.Lock()
        self._known = _read(path)
        drop_unfinished(path)
        self.version = 0
        """Another whenever the digests are."""

    def of(self, image: str) -> list[str]:
        """Names by digest of the image of an id."""
        return [name for name, ident in self._known.items() if ident == image]

    def add(self, name: str, image: str, known: Callable[[], Collection[str]]) -> None:
        """On the disk when this returns. `known` gives the ids of all images that there are. Raises CnmError."""
        with self._writing:
            images = known()  # not before: it would lack those whose digests others have added meanwhile
            kept = {other: ident for other, ident in self._known.items() if ident in images}
            if self._known.get(name) != image:
                self._write({**kept, name: image})

    def remove(self, names: Iterable[str]) -> None:
        """Those that are known. Raises CnmError."""
        with self._writing:
            if gone := self._known.keys() & set(names):
                self._write({name: ident for name, ident in self._known.items() if name not in gone})

    def _write(self, known: Mapping[str, str]) -> None:
        with disk_errors(f"cannot write {self._path}"):
            replace(self._path, msgspec.json.encode(known))
        self._known = dict(known)
        self.version += 1


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, "rb") as file:
            return _decode(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read, images have no digests until they are pulled again: %s", path, error)
        return {}
