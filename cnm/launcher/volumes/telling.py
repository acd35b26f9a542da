"""What others are told of volumes: one thing at a time of each, as it is when it is told, and later where it cannot be.

An older word that came after a newer one would have others believe that nobody has a volume that somebody has.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from cnm.errors import CnmError, Conflict
from cnm.launcher.volumes.named_locks import NamedLocks
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

_AGAIN_SECONDS = 5.0
"""Before what could not be told is told again."""
_Key = tuple[str, str]
"""Driver and name."""


class Telling:
    """Thread-safe. What tells (`say`) looks how it is when it is called, and raises CnmError."""

    def __init__(self) -> None:
        self._locked = NamedLocks()
        self._guard = threading.Lock()
        self._untold: dict[_Key, Callable[[], object]] = {}
        self._again = 0.0

    def tell(self, volume: Volume, say: Callable[[], object]) -> None:
        """In place of whatever could not be told of it before. Raises Conflict; else it is told later."""
        key = volume.driver, volume.name
        with self._locked(volume.name):
            self._note(key, None)
            try:
                say()
            except Conflict:
                raise
            except CnmError as error:
                log.warning("volume %s: other hosts hear of it later: %s", volume.name, error)
                self._note(key, say)

    def catch_up(self, volume: Volume) -> None:
        """What could not be told of it. Raises CnmError where it still cannot be."""
        self._catch_up((volume.driver, volume.name))

    def tell_again(self) -> None:
        """What could not be told; seldom where it still cannot be. Never fails."""
        if not self._untold or time.monotonic() < self._again:
            return
        self._again = time.monotonic() + _AGAIN_SECONDS
        with self._guard:
            keys = list(self._untold)
        for key in keys:
            try:
                self._catch_up(key)
            except CnmError as error:
                log.debug("%s", error)

    def _catch_up(self, key: _Key) -> None:
        with self._locked(key[1]):
            if (say := self._untold.get(key)) is None:
                return
            try:
                say()
            except Conflict as error:
                log.error("%s", error)
            self._note(key, None)

    def _note(self, key: _Key, say: Callable[[], object] | None) -> None:
        with self._guard:
            if say is None:
                self._untold.pop(key, None)
            else:
                self._untold[key] = say
