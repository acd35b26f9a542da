"""Keeps open the places that neighbours offer: a thread that looks when something changed, and holds up no verb."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from cnm.errors import CnmError
from cnm.neighbours.neighbour import Neighbour, Report

_LOOK_SECONDS = 5.0
"""Between two looks at what tells nobody when it changes: the tables of legacy iptables, programs that restart."""
_GATHER_SECONDS = 0.05
"""Verbs that follow each other closely are one change."""
_REST_SECONDS = 0.3
_RETRY_SECONDS = 60.0
"""After something did not work, though nothing has changed since."""
_MOST_CHANGES = 20
"""In a minute that no need of ours explains: somebody takes away what we write as soon as it is there, and is not
fought for ever."""
_MINUTE = 60.0

log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """A neighbour, how it was when it was last dealt with, and what came of that."""

    neighbour: Neighbour
    key: Hashable = None
    needs: Hashable = None
    report: Report | None = None
    error: str = ""
    """Why it could not be dealt with, once told; "" where it could."""
    retry_at: float = float("inf")
    """When to deal with it again though nothing changed (time.monotonic)."""


class Neighbours:
    """All neighbours that are known. Without `start` nothing is looked at, and there is nothing to report.

    With `enabled` off, what an earlier process wrote is taken away, once.
    """

    def __init__(self, known: Sequence[Neighbour] = (), *, enabled: bool = True) -> None:
        self._watched = [_Watched(neighbour) for neighbour in known]
        self._enabled = enabled
        self._bridges: Callable[[], Collection[str]] = tuple
        self._wake, self._hinted, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._changes: deque[float] = deque(maxlen=_MOST_CHANGES)
        self._thread = threading.Thread(target=self._run, name="neighbours", daemon=True)

    def start(self, bridges: Callable[[], Collection[str]]) -> None:
        """`bridges` tells the names that the bridges of our networks have now, from any thread."""
        self._bridges = bridges
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; what it wrote stays, since our networks do."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for watched in self._watched:
            watched.neighbour.close()

    def reports(self) -> tuple[Report, ...]:
        return tuple(watched.report for watched in self._watched if watched.report is not None)

    def networks_changed(self) -> None:
        """A network of ours came or went. Returns at once, as everything here does."""
        self._wake.set()

    def tables_changed(self) -> None:
        """Somebody else changed nftables, which may have been our rules in them."""
        self._hinted.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            if hinted := self._hinted.is_set():
                self._hinted.clear()
            for watched in self._watched:
                self._look(watched, hinted)
            if not self._enabled or self._closing.wait(self._rest()):
                return
            if self._wake.wait(_LOOK_SECONDS):
                self._closing.wait(_GATHER_SECONDS)

    def _rest(self) -> float:
        if len(self._changes) == _MOST_CHANGES and time.monotonic() - self._changes[0] < _MINUTE:
            log.warning("what was placed beside others is removed again and again: resting for a minute")
            return _MINUTE
        return _REST_SECONDS

    def _look(self, watched: _Watched, hinted: bool) -> None:
        try:
            report = self._deal_with(watched, hinted)
        except (CnmError, OSError) as error:
            if str(error) != watched.error:
                log.error("a neighbour cannot be looked at: %s", error)
            watched.error = str(error)
            return
        watched.error = ""
        if (
            report is not None
            and report is not watched.report
            and (report.changed or report != watched.report)
        ):
            _log(report)
        watched.report = report

    def _deal_with(self, watched: _Watched, hinted: bool) -> Report | None:
        """The report as it is now: the old one where nothing changed."""
        neighbour, now = watched.neighbour, time.monotonic()
        seen = neighbour.detect()
        if seen is None:
            watched.key = None
            return None
        bridges = self._bridges() if self._enabled else ()
        needs = neighbour.needs(bridges)
        key = (seen, needs)
        if key == watched.key and not (hinted and neighbour.in_tables) and now < watched.retry_at:
            return watched.report
        if bridges:
            report = neighbour.allow(bridges)
        else:
            report = neighbour.undo(
                "no network needs it" if self._enabled else "switched off in the settings"
            )
        # Seen before it was written to: were it taken for how things are, the same damage again would be overlooked.
        watched.key = None if report and report.changed else key
        watched.retry_at = now + _RETRY_SECONDS if report and report.failed else float("inf")
        if report and report.changed and needs == watched.needs:
            self._changes.append(now)
        watched.needs = needs
        return report


def _log(report: Report) -> None:
    log.info("%s: %s (%s)", report.name, report.state, report.detail)
    for warning in report.warnings:
        log.warning("%s: %s", report.name, warning)
