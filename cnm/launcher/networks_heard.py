"""What cnmd tells of networks, in the launcher's own stream of events: clients hear of both in one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from cnm.errors import CnmError
from cnm.launcher.parts import Parts

log = logging.getLogger("cnm.launcher")

_PAUSES = (0.2, 5.0)
"""Seconds before cnmd is asked again, the first and the longest."""


class NetworksHeard:
    """A thread that follows for as long as the process lives."""

    def __init__(self, parts: Parts, back: Callable[[], None]) -> None:
        """`back` is called when cnmd answers again, before anything else is heard."""
        self._p = parts
        self._back = back

    def start(self) -> None:
        threading.Thread(target=self._run, name="networks heard", daemon=True).start()

    def _run(self) -> None:
        pause, known = _PAUSES[0], self._p.sandboxes.known
        while True:
            try:
                events = self._p.cnmd.events()
                pause = _PAUSES[0]
                known.follow(True)
                self._back()
                for event in events:
                    known.changed()
                    self._pass_on(event)
            except CnmError as error:
                log.debug("%s", error)
            known.follow(False)
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _pass_on(self, event: dict[str, Any]) -> None:
        if event["Type"] == "network":
            actor = event["Actor"]
            attributes = actor.get("Attributes") or {}
            self._p.events.publish("network", event["Action"], actor["ID"], **attributes)
