"""A container's cgroups, one in each hierarchy: whether they are frozen, and what clears away those that nobody wants.

The runtime makes and removes them; it knows of none when it was killed before it had written that down.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from cnm.errors import CnmError
from cnm.kernel.pseudo_files import read_text

_ROOT = "/sys/fs/cgroup"
_SECONDS = 10.0
"""For the kernel to end what was killed."""


def is_frozen(group: str) -> bool:
    """Whether the processes in the cgroup of this path (`Container.cgroup`) are frozen, or on their way to it."""
    for path in _places(group):
        if read_text(os.path.join(path, "freezer.state")).strip() in ("FROZEN", "FREEZING"):
            return True
        if read_text(os.path.join(path, "cgroup.freeze")).strip() == "1":
            return True
    return False


def clear(group: str) -> None:
    """Kills what is in the cgroup, and removes it in each hierarchy. Raises CnmError where that takes too long."""
    deadline = time.monotonic() + _SECONDS
    for path in _places(group):
        while not _removed(path):
            if time.monotonic() > deadline:
                raise CnmError(f"cannot remove the cgroup {path}: processes in it do not end")
            _kill(path)
            time.sleep(0.005)  # nothing tells when the kernel is done


def _places(group: str) -> list[str]:
    """Of those hierarchies that have it; v1 has one below each controller, v2 is one itself."""
    name = group.lstrip("/")
    candidates = [os.path.join(_ROOT, name), *(os.path.join(_ROOT, each, name) for each in _hierarchies())]
    return [path for path in candidates if os.path.isdir(path)]


def _hierarchies() -> list[str]:
    """`cpu` may be a link to `cpu,cpuacct`."""
    return [entry.name for entry in os.scandir(_ROOT) if entry.is_dir(follow_symlinks=False)]


def _removed(path: str) -> bool:
    """From below: a container may have made cgroups in its own."""
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _kill(path: str) -> None:
    """SIGKILL reaches a frozen process when it is thawed."""
    for folder, _, files in os.walk(path):
        for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if name in files:
                with suppress(OSError), open(os.path.join(folder, name), "w") as file:
                    file.write(thawed)
        for pid in _processes(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes(folder: str) -> Iterator[int]:
    return map(int, read_text(os.path.join(folder, "cgroup.procs")).split())
