"""Images that builds which go on need, or may: nobody prunes these."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager


class ImagesInWork:
    """Thread-safe."""

    def __init__(self, known: Callable[[], Collection[str]]) -> None:
        """`known` gives the ids of all images."""
        self._known = known
        self._lock = threading.Lock()
        self._needed: list[frozenset[str]] = []
        """Of each build, what it begins with."""
        self._before: frozenset[str] = frozenset()

    @contextmanager
    def needing(self, images: Collection[str]) -> Iterator[None]:
        """A build that begins with these ids."""
        needed = frozenset(images)
        with self._lock:
            if not self._needed:
                self._before = frozenset(self._known())
            self._needed.append(needed)
        try:
            yield
        finally:
            with self._lock:
                self._needed.remove(needed)

    def may_need(self, image: str) -> bool:
        """Also one that came since: the next step of a build may begin with it."""
        with self._lock:
            is_new = bool(self._needed) and image not in self._before
            return is_new or any(image in each for each in self._needed)
