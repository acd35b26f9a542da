"""Under systemd each container's monitor is in a scope of its own: no restart of the launcher's unit takes it along.

Without systemd nothing is done. Source: org.freedesktop.systemd1(5), StartTransientUnit.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from cnm.errors import CnmError
from cnm.neighbours.bus import Call, SignalBus

log = logging.getLogger("cnm.launcher")

_BOOTED = "/run/systemd/system"
"""There where systemd runs the host (sd_booted(3))."""
_SYSTEMD, _OBJECT = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_MATCH = f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}',member='JobRemoved'"
_SIGPIPE = 13
"""What a stop of the scope sends: conmon goes by its container's end, and would lose the exit code by any other."""


def _system_bus() -> AbstractContextManager[SignalBus]:
    """Imported on the way, and jeepney with it: most launchers in tests and images have no systemd."""
    from cnm.neighbours.system_bus import system_bus

    return system_bus()


class Scopes:
    """Thread-safe."""

    def __init__(
        self, booted: str = _BOOTED, bus: Callable[[], AbstractContextManager[SignalBus]] = _system_bus
    ) -> None:
        self._booted, self._bus = booted, bus

    def placed(self, ident: str, name: str) -> Callable[[int], None] | None:
        """What is to be called with the monitor's process before it has children; None without systemd."""
        if not os.path.isdir(self._booted):
            return None
        return lambda pid: self._place(ident, name, pid)

    def _place(self, ident: str, name: str, pid: int) -> None:
        """A container that has no scope runs all the same."""
        scope = f"cnm-{ident[:12]}-{pid}.scope"
        try:
            with self._bus() as bus:
                _start(bus, scope, f"Monitor of container {name}", pid)
        except CnmError as error:
            log.warning(
                "container %s: its monitor stays in the launcher's unit, and ends with it: systemd makes no scope: %s",
                ident[:12],
                error,
            )


def _start(bus: SignalBus, scope: str, description: str, pid: int) -> None:
    """The process is in the scope when this returns. Raises CnmError."""
    bus.call(
        Call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
            "s",
            (_MATCH,),
        )
    )
    properties: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", description)),
        ("PIDs", ("au", [pid])),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("DefaultDependencies", ("b", False)),
        ("KillSignal", ("i", _SIGPIPE)),
    ]
    body: tuple[Any, ...] = (scope, "fail", properties, [])
    (job,) = bus.call(Call(_SYSTEMD, _OBJECT, _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body))
    _, _, _, result = bus.heard(_MANAGER, "JobRemoved", lambda removed: removed[1] == job)
    if result != "done":
        raise CnmError(f"its job for {scope} ended with {result}")
