"""When images were named here the last time, which Docker tells of them; containers-storage does not know.

One file, the id of an image to nanoseconds since 1970. What it says of images that are gone is forgotten when it is
written the next time. A file that cannot be written costs that one word, and no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

import msgspec

from cnm.launcher.disk import drop_unfinished, replace

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(dict[str, int]).decode


class TagTimes:
    """Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writing = threading.Lock()
        self._known = _read(path)
        drop_unfinished(path)

    def of(self, image: str) -> int:
        """0 for one that was not named here."""
        return self._known.get(image, 0)

    def note(self, image: str, known: Callable[[], Collection[str]]) -> None:
        """It is named now. `known` gives the ids of all images that there are."""
        with self._writing:
            images = known()
            kept = {other: moment for other, moment in self._known.items() if other in images}
            self._known = {**kept, image: time.time_ns()}
            try:
                replace(self._path, msgspec.json.encode(self._known))
            except OSError as error:
                log.warning("%s cannot be written: %s", self._path, error.strerror)


def _read(path: str) -> dict[str, int]:
    try:
        with open(path, "rb") as file:
            return _decode(file.read())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
