"""Deletes what dockerd has forgotten: endpoints that no container has been behind for a while."""

from __future__ import annotations

import logging
import threading

from cnm.controller import Controller
from cnm.errors import CnmError

log = logging.getLogger(__name__)


class Collector:
    """One thread; an endpoint goes when it looked forgotten twice in a row, `seconds` apart."""

    def __init__(self, controller: Controller, seconds: float) -> None:
        self._controller = controller
        self._pause = seconds
        self._stopping = threading.Event()
        self._seen: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def collect(self) -> None:
        """Delete what was stale at the last look and is so still."""
        stale = set(self._controller.stale_endpoints())
        again = stale & self._seen
        self._controller.dockerd.discard(sorted(again))
        self._seen = stale - again

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            try:
                self.collect()
            except CnmError as error:
                log.error("endpoints that dockerd forgot are not collected: %s", error)
