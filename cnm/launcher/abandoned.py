"""What a creation leaves that was killed on its way: processes, cgroups, a folder of the runtime.

runc removes what it made where it fails, but not where it is killed; what it has not written down yet `runc delete`
does not find.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from cnm.errors import CnmError
from cnm.kernel.processes import kill
from cnm.launcher import cgroups

_SESSION_FIELD = 3
"""Of /proc/PID/stat, counted behind the name of the program (proc(5): field 6)."""
_PATIENCE = 10.0


def sweep(runtime_root: str, container: str, cgroup: str, monitor_pid: int = 0) -> None:
    """End what is left of a container that the runtime has no state of; nothing left is fine.

    `cgroup` is the container's own ("/cnm/ID"); `monitor_pid` conmon's, which leads a session, 0 where it is not
    known. Raises CnmError where a process cannot be ended.
    """
    deadline = time.monotonic() + _PATIENCE
    while pids := _of_session(monitor_pid):
        for pid in pids:
            kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise CnmError(f"container {container} cannot be removed: processes {sorted(pids)} do not end")
        time.sleep(0.005)
    if cgroup.strip("/"):
        cgroups.clear(cgroup)
    shutil.rmtree(os.path.join(runtime_root, container), ignore_errors=True)


def _of_session(leader: int) -> set[int]:
    """Without zombies: nothing ends those but their parent."""
    if not leader:
        return set()
    return {int(name) for name in os.listdir("/proc") if name.isdecimal() and _session(name) == leader}


def _session(pid: str) -> int:
    try:
        fields = Path("/proc", pid, "stat").read_bytes().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[_SESSION_FIELD])
