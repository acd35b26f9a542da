"""podman of a launcher that was killed, and what it had started: while one works, nobody knows what the store has.

They are known by their environment, which names settings that are this launcher's alone.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from cnm.errors import CnmError
from cnm.kernel.processes import has_ended, kill

log = logging.getLogger("cnm.launcher")

_VARIABLE = "CONTAINERS_STORAGE_CONF"
_ROUNDS = 10
_SECONDS = 10.0


def end(environment: Mapping[str, str]) -> None:
    """`environment` is what podman is run with. Raises CnmError where one does not end."""
    mark = os.fsencode(f"{_VARIABLE}={environment[_VARIABLE]}")
    for _ in range(_ROUNDS):  # one may start another while it is looked for
        found = [pid for pid in _pids() if pid != os.getpid() and _has(pid, mark)]
        if not found:
            return
        for pid in found:
            log.warning("process %d works on the image store for nobody: it goes", pid)
            kill(pid, signal.SIGKILL)
        if stubborn := [pid for pid in found if not has_ended(pid, _SECONDS)]:
            raise CnmError(f"processes {stubborn} that work on the image store do not end")
    raise CnmError("something starts podman on the image store again and again")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _has(pid: int, mark: bytes) -> bool:
    """One that is dead has no environment."""
    try:
        return mark in Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
