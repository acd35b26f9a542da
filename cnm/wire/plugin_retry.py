"""Docker's schedule for a plugin that does not answer: again after 1, 2, 4, 8, 16 s, as long as 30 s are not full.

Source: github.com/moby/moby, pkg/plugins/client.go (backoff, abort).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from cnm.errors import CnmError

T = TypeVar("T")

_LONGEST_PAUSE = 30.0
_GIVE_UP_SECONDS = 30.0

log = logging.getLogger(__name__)


class Clock(Protocol):
    """Where time comes from; a test's does not sleep."""

    def now(self) -> float:
        """Seconds, of a clock that only goes forward."""

    def pause(self, seconds: float) -> bool:
        """Wait; False when waiting is no use any more."""


class RealClock:
    """Pauses end at once when `close` is called, so that nobody waits for a plugin while the daemon ends."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> bool:
        return not self._closed.wait(seconds)

    def close(self) -> None:
        self._closed.set()


def pause_before(retry: int) -> float:
    """Seconds before the retry of this number, from 0."""
    return min(2.0**retry, _LONGEST_PAUSE)


def retried(action: Callable[[], T], on: type[CnmError], clock: Clock) -> T:
    """What `action` returns; an error of the class `on` is tried again by the schedule, then raised."""
    began, retry = clock.now(), 0
    while True:
        try:
            return action()
        except on as error:
            pause = pause_before(retry)
            if clock.now() - began + pause >= _GIVE_UP_SECONDS:
                raise
            log.warning("%s; retrying in %d s", error, pause)
            if not clock.pause(pause):
                raise
            retry += 1
