"""Repairs drift: when somebody changed what is ours, the whole is examined and mended within a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from cnm.controller import Controller
from cnm.doctor import log_findings
from cnm.errors import CnmError
from cnm.kernel.monitor import Hint

_SETTLE_SECONDS = 0.2
_REST_SECONDS = 0.5
"""Between two examinations: a flood of changes by others costs us a bounded share of a processor."""
_LOOK_SECONDS = 10.0
"""Between two looks at the host's switches (br_netfilter, forwarding, new interfaces) and files, which tell nobody."""

log = logging.getLogger(__name__)


class Hints(Protocol):
    """Where hints come from: `cnm.kernel.monitor.Monitor`."""

    def wait(self, seconds: float) -> Hint: ...

    def close(self) -> None: ...


class Watcher:
    """One thread; `told` is called at once when somebody else changed something, and returns at once."""

    def __init__(self, controller: Controller, hints: Hints, told: Callable[[], None]) -> None:
        self._controller = controller
        self._hints = hints
        self._told = told
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._hints.close()
        self._thread.join()

    def _run(self) -> None:
        while (hint := self._hints.wait(_LOOK_SECONDS)) is not Hint.CLOSED:
            if hint in (Hint.CHANGED, Hint.FILTER_CHANGED):
                self._told()
            if self._stopping.wait(_SETTLE_SECONDS):
                return
            self._controller.follow_host_files()
            if hint is Hint.CHANGED or self._controller.host_changed():
                self._repair()
                self._stopping.wait(_REST_SECONDS)

    def _repair(self) -> None:
        try:
            log_findings("repaired", self._controller.repair())
        except CnmError as error:
            log.error("drift was not repaired: %s; cnmctl doctor shows it", error)
