"""Images that builds which go on need, and those that came while images are being made: nobody prunes these."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class _Work(NamedTuple):
    """Of whoever makes an image."""

    needed: frozenset[str]
    """What it begins with."""
    before: frozenset[str]
    """What there was."""


class ImagesInWork:
    """Thread-safe."""

    def __init__(self, known: Callable[[], Collection[str]]) -> None:
        """`known` gives the ids of all images."""
        self._known = known
        self._lock = threading.Lock()
        self._work: list[_Work] = []

    @contextmanager
    def needing(self, images: Collection[str]) -> Iterator[None]:
        """Whoever makes an image, and begins with these ids: until the image has its names, or is not to have any."""
        with self._lock:
            work = _Work(frozenset(images), frozenset(self._known()))
            self._work.append(work)
        try:
            yield
        finally:
            with self._lock:
                self._work.remove(work)

    def may_need(self, image: str) -> bool:
        """Also one that came since: it may be the one that is made, or the next step of a build may begin with it."""
        with self._lock:
            return any(image in each.needed or image not in each.before for each in self._work)
