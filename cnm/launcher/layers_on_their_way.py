"""Who brings layers, and what becomes of those that a failure has left, which podman does not remove.

They go when nothing is being brought any more, since what is on its way belongs to no image either. What a pull had
brought wholly stays for some minutes: the next one need not fetch it again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import IntEnum

from cnm.errors import CnmError
from cnm.launcher.disk import says_full

log = logging.getLogger(__name__)

_KEPT_SECONDS = 600.0


class _Left(IntEnum):
    """What has to go, the more the higher."""

    NOTHING = 0
    HALVES = 1
    """Layers that are not whole."""
    FAILED = 2
    """Those too that came since the first of those who bring layers now has begun."""
    ALL = 3
    """Every one that no image has."""


class LayersOnTheirWay:
    """Thread-safe. Whoever brings layers does it in `adding`."""

    def __init__(
        self,
        known: Callable[[], Collection[str]],
        drop: Callable[[Collection[str]], None],
        kept_seconds: float = _KEPT_SECONDS,
    ) -> None:
        """`known` gives the ids of the layers that are whole, `drop` removes orphans but for those that it is given."""
        self._known, self._drop, self._kept_seconds = known, drop, kept_seconds
        self._lock = threading.Lock()
        self._count = 0
        self._before: Collection[str] = ()
        self._left = _Left.NOTHING
        self._until: threading.Timer | None = None
        """When what pulls have left goes."""

    @contextmanager
    def adding(self, *, resumes: bool = False) -> Iterator[None]:
        """Where the block fails, what it left goes, once nobody else adds any more.

        `resumes`: what is whole of it stays for the next one, unless the disk is full. Raises CnmError.
        """
        with self._lock:
            if not self._count:
                self._before = self._known()
            self._count += 1
        left = _Left.NOTHING
        try:
            yield
        except BaseException as error:
            left = _Left.ALL if says_full(error) else _Left.HALVES if resumes else _Left.FAILED
            raise
        finally:
            with self._lock:
                self._count -= 1
                self._leave(left)

    def drop_all(self) -> None:
        """Nothing is kept for a next pull: at once, or when nobody adds any more."""
        with self._lock:
            self._leave(_Left.ALL)

    def _leave(self, left: _Left) -> None:
        self._left = max(self._left, left)
        if self._left is _Left.HALVES and self._until is None:
            self._until = threading.Timer(self._kept_seconds, self.drop_all)
            self._until.daemon = True
            self._until.start()
        if not self._count and self._left is not _Left.NOTHING:
            self._clear()

    def _clear(self) -> None:
        """Why something failed is what counts, and what stays now goes at the next start."""
        left, self._left = self._left, _Left.NOTHING
        if left is _Left.ALL and self._until is not None:
            self._until.cancel()
            self._until = None
        try:
            self._drop(self._kept(left))
        except CnmError as error:
            log.warning("layers that no image has stay: %s", error)

    def _kept(self, left: _Left) -> Collection[str]:
        if left is _Left.HALVES:
            return self._known()
        return self._before if left is _Left.FAILED else ()
