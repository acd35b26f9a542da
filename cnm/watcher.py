"""Repairs drift: when somebody changed what is ours, the whole is examined and mended within a second."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from cnm.controller import Controller
from cnm.errors import CnmError

_SETTLE_SECONDS = 0.2
_REST_SECONDS = 0.5
"""Between two examinations: a flood of changes by others costs us a bounded share of a processor."""

log = logging.getLogger(__name__)


class Hints(Protocol):
    """Where hints come from: `cnm.kernel.monitor.Monitor`."""

    def wait(self) -> bool: ...

    def close(self) -> None: ...


class Watcher:
    """One thread."""

    def __init__(self, controller: Controller, hints: Hints) -> None:
        self._controller = controller
        self._hints = hints
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._hints.close()
        self._thread.join()

    def _run(self) -> None:
        while self._hints.wait() and not self._stopping.wait(_SETTLE_SECONDS):
            try:
                for finding in self._controller.repair():
                    log.warning("repaired: %s %s", finding.problem.value, finding.wanted or finding.observed)
            except CnmError as error:
                log.error("drift was not repaired: %s; cnmctl doctor shows it", error)
            self._stopping.wait(_REST_SECONDS)
