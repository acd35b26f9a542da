"""What containers leave, looked for everywhere: processes, cgroups, mounts, files, sandboxes, namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.launcher import Launcher

_FOLDERS = (
    *("root/launcher/containers", "run/launcher/containers", "run/launcher/exits", "run/launcher/runc"),
    *("run/launcher/execs", "run/netns"),
)
_CGROUPS = Path("/sys/fs/cgroup")


def left(launcher: Launcher) -> list[str]:
    """One text for each thing, of a launcher without containers."""
    return [
        *processes(launcher),
        *_cgroups(launcher),
        *_mounts(launcher),
        *_files(launcher),
        *_networks(launcher),
    ]


def processes(launcher: Launcher) -> list[str]:
    """Those in cgroups of containers, and programs that work for them."""
    inside = [f"process {pid} in a cgroup" for pid in pids(launcher)]
    return [*inside, *(f"process {text}" for text in _programs(str(launcher.place / "run" / "launcher")))]


def pids(launcher: Launcher) -> set[int]:
    """Of all processes of containers."""
    found = set()
    for hierarchy in _hierarchies():
        for tasks in (hierarchy / launcher.cgroup).rglob("cgroup.procs"):
            try:
                found |= {int(pid) for pid in tasks.read_text().split()}
            except OSError:  # it went meanwhile
                continue
    return found


def monitors(launcher: Launcher) -> list[int]:
    """Pids of all conmons."""
    told = _programs(str(launcher.place / "run" / "launcher"))
    return [int(text.split()[0]) for text in told if "conmon" in text.split()[1]]


def _hierarchies() -> list[Path]:
    return [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())]


def _programs(folder: str) -> Iterator[str]:
    """What was told of a path below the folder, but launchers themselves; dead ones have no arguments."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it ended meanwhile
                continue
            if any(argument.startswith(folder) for argument in arguments):
                yield f"{entry.name} {' '.join(arguments)}"


def _cgroups(launcher: Launcher) -> Iterator[str]:
    for hierarchy in _hierarchies():
        place = hierarchy / launcher.cgroup
        if place.is_dir():
            yield from (f"cgroup {path}" for path in place.iterdir() if path.is_dir())


def _mounts(launcher: Launcher) -> Iterator[str]:
    """But containers-storage's own, which podman leaves mounted while it is there."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith(f"{launcher.place}/root/launcher/containers/") or (
            point.startswith(f"{launcher.place}/run/netns/")
        ):
            yield f"mount {point}"


def _files(launcher: Launcher) -> Iterator[str]:
    for folder in _FOLDERS:
        place = launcher.place / folder
        if place.is_dir():
            yield from (f"file {path}" for path in sorted(os.listdir(place)))


def _networks(launcher: Launcher) -> Iterator[str]:
    for noun in ("sandboxes", "endpoints"):
        yield from (f"{noun} {each['Name']}" for each in launcher.cnmd.ask("GET", f"/cnm/v1/{noun}"))
    yield from (f"doctor: {finding}" for finding in launcher.cnmd.findings())
