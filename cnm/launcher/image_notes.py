"""What is known here of images and containers-storage does not say: one word of each, in a file beside the store.

What it says of images that are gone is forgotten when it is written the next time. A file that cannot be written
costs that one word, and no more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

import msgspec

from cnm.launcher.disk import drop_unfinished, replace

log = logging.getLogger(__name__)

Word = TypeVar("Word")


class ImageNotes(Generic[Word]):
    """Thread-safe."""

    def __init__(self, path: str, of: type[Word]) -> None:
        """`of`: what a word is."""
        self._path = path
        self._writing = threading.Lock()
        self._known = _read(path, of)
        drop_unfinished(path)
        self.version = 0
        """Another whenever the words are."""

    def of(self, image: str, otherwise: Word) -> Word:
        """`otherwise`: for an image, by its id, that nothing was noted of."""
        return self._known.get(image, otherwise)

    def note(self, words: Mapping[str, Word], known: Callable[[], Collection[str]]) -> None:
        """By ids of images. `known` gives the ids of all images that there are."""
        if words.items() <= self._known.items():
            return
        with self._writing:
            images = known()
            kept = {image: word for image, word in self._known.items() if image in images}
            self._known = {**kept, **words}
            self.version += 1
            try:
                replace(self._path, msgspec.json.encode(self._known))
            except OSError as error:
                log.warning("%s cannot be written: %s", self._path, error.strerror)


def _read(path: str, of: type[Word]) -> dict[str, Word]:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, of])  # type: ignore[valid-type]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
