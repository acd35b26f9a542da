"""Moments of a volume's move at which a launcher of a test stands still, until it is killed or told to go on.

`arm` runs in the launcher's process; it is given by `Launcher.before`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.cluster.hosts import eventually

SOURCE = ("offered", "sending", "sent", "noted", "told", "handed over")
TARGET = ("receiving", "whole", "committing", "taken in", "committed")
"""In their order."""
_POLL_SECONDS = 0.01


class Points:
    """Of one launcher; what is asked for lies in a folder."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(parents=True, exist_ok=True)

    @property
    def before(self) -> str:
        """Python for `Launcher.before`."""
        return f"from tests.support.moving_points import arm; arm({str(self._place)!r})"

    def stop_at(self, point: str) -> None:
        (self._place / f"stop {point}").touch()

    def await_reached(self, point: str) -> None:
        eventually(lambda: (self._place / f"reached {point}").exists())

    def go_on(self, point: str) -> None:
        (self._place / f"reached {point}").unlink()

    def clear(self) -> None:
        for path in self._place.iterdir():
            path.unlink()


def arm(place: str) -> None:
    from cnm.launcher.moving import arriving, frames, notes, sender, settling
    from cnm.launcher.volumes.volumes import Volumes

    def at(point: str) -> None:
        wanted, reached = Path(place, f"stop {point}"), Path(place, f"reached {point}")
        if wanted.exists():
            wanted.rename(reached)
            while reached.exists():
                time.sleep(_POLL_SECONDS)

    _wrap(sender.Sender, "offer", at, after="offered")
    _wrap(sender.Sender, "content", at, after="sent")
    _wrap(sender.Sender, "commit", at, after="told")
    _wrap(notes, "note_leaving", at, after="noted")
    _wrap(settling.Settling, "_goes", at, after="handed over")
    _wrap(arriving.Arriving, "receive", at, after="whole")
    _wrap(Volumes, "take_in", at, before="committing", after="taken in")
    _wrap(arriving.Arriving, "commit", at, after="committed")
    _pause_amid(sender, "_pieces", at, "sending")
    _pause_amid(frames, "unpacked", at, "receiving")


def _wrap(owner: Any, name: str, at: Callable[[str], None], *, before: str = "", after: str = "") -> None:
    wrapped = getattr(owner, name)

    def stopping(*arguments: Any, **options: Any) -> Any:
        if before:
            at(before)
        answer = wrapped(*arguments, **options)
        if after:
            at(after)
        return answer

    setattr(owner, name, stopping)


def _pause_amid(owner: Any, name: str, at: Callable[[str], None], point: str) -> None:
    """Behind the second thing that it yields."""
    wrapped = getattr(owner, name)

    def pausing(*arguments: Any) -> Iterator[Any]:
        for number, each in enumerate(wrapped(*arguments)):
            yield each
            if number == 1:
                at(point)

    setattr(owner, name, pausing)
