"""What a power cut leaves of cnmd, the launcher and their containers: what is below the root directory, and no more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnm.kernel.processes import has_ended
from netns_fixtures import Topology
from tests.support.launcher import Launcher
from tests.support.launcher_left import pids

_SECONDS = 20.0


def cut_power(launcher: Launcher) -> None:
    """Processes, mounts, namespaces, cgroups and the run directory are gone."""
    assert launcher.cnmd.process is not None
    network = _network_namespace(launcher.cnmd.process.pid)
    launcher.kill()
    launcher.cnmd.kill()
    ended = pids(launcher) | _working_for(launcher.place) | _inside(network)
    for pid in ended:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for state in Path("/sys/fs/cgroup/freezer", launcher.cgroup).glob("*/freezer.state"):
        state.write_text("THAWED")  # what is frozen does not end
    assert all(has_ended(pid, _SECONDS) for pid in ended)
    for point in _mounts(launcher.place):
        subprocess.run(["umount", "--lazy", point], check=True)
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        for group in sorted((hierarchy / launcher.cgroup).rglob("*/"), reverse=True):
            group.rmdir()
    shutil.rmtree(launcher.place / "run")


def ident_of(launcher: Launcher, name: str) -> str:
    """Without asking a launcher."""
    records = (launcher.place / "root/launcher/containers").glob("*/container.json")
    return next(path.parent.name for path in records if json.loads(path.read_text())["name"] == name)


@contextmanager
def switched_on(launcher: Launcher) -> Iterator[None]:
    """cnmd and launcher come up in the network namespace of a machine that has just been switched on."""
    before = launcher.popen
    with Topology({"hosts": {"host": {}}}) as topology:
        launcher.popen = launcher.cnmd.popen = topology.hosts["host"].popen
        launcher.cnmd.start()
        launcher.start()
        try:
            yield
        finally:
            launcher.clear()
            launcher.stop()
            launcher.cnmd.stop()
            launcher.popen = launcher.cnmd.popen = before
    launcher.cnmd.start()
    launcher.start()


def _working_for(place: Path) -> set[int]:
    """Processes that were told of the run directory, as conmons are."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if str(place / "run").encode() in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
    return found


def _inside(network: str) -> set[int]:
    """Processes of the host's network namespace: cnmd's resolver, for one, is told of no path."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if pid != os.getpid() and _network_namespace(pid) == network}


def _network_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:  # it ended meanwhile, or is dead
        return ""


def _mounts(place: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in reversed(points) if point.startswith(f"{place}/")]
