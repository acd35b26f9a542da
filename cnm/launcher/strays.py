"""What a killed launcher left in the middle of its work: monitors that make a container still, and the runtime itself.

They are known by their arguments, the runtime's root directory among them, which is one launcher's alone.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from cnm.kernel.processes import has_ended

log = logging.getLogger("cnm.launcher")

_SECONDS = 10.0
"""For a runtime that does something to end by itself."""
_ROUNDS = 10


class _Stray(NamedTuple):
    pid: int
    arguments: list[str]

    @property
    def is_monitor(self) -> bool:
        return "--conmon-pidfile" in self.arguments


def end_strays(roots: Collection[str], monitors: Collection[int]) -> None:
    """Ends all programs that were started for runtimes with these root directories, but for `monitors` (pids).

    A verb of the runtime is waited for, so that it leaves nothing half done; but a creation never ends by itself.
    """
    for _ in range(_ROUNDS):  # one may start another while it is looked for
        strays = [stray for stray in _strays(set(roots)) if stray.pid not in monitors]
        if not strays:
            return
        for stray in sorted(strays, key=lambda each: not each.is_monitor):
            log.warning("%s is nobody's: it goes", " ".join(stray.arguments[:3]))
            if stray.is_monitor or not has_ended(stray.pid, _SECONDS):
                _kill(stray.pid)


def _strays(roots: set[str]) -> Iterator[_Stray]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            arguments = _arguments(int(name))
            if not roots.isdisjoint(arguments):
                yield _Stray(int(name), arguments)


def _arguments(pid: int) -> list[str]:
    """None of a dead process that nobody has waited for."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _kill(pid: int) -> None:
    """With its process group: conmon leads one of its own, with the runtime that it has make a container."""
    with suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
        has_ended(pid, _SECONDS)
