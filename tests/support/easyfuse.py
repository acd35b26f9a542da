"""docker-volume-easyfuse, a volume plugin of other people, with bindfs for its file system.

It calls mount(8), which looks for FUSE's helper in /sbin alone, and hands it no library path: a script that has one is
laid over the test process's own /usr/sbin.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netns_fixtures import is_isolated
from tests.support.unpacked import environment, lacking, program

_PROGRAMS = ("bindfs", "mount.fuse3")
_SECONDS = 20.0


def easyfuse_is_lacking() -> str:
    """Why it cannot be played, "" where it can: the reason of a skip."""
    if importlib.util.find_spec("easyfuse") is None:
        return "docker-volume-easyfuse is not installed: run make setup"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "this host has no /dev/fuse"
    return lacking(*_PROGRAMS)


class Easyfuse:
    """It serves from `start` to `kill`, and again; what it has mounted stays."""

    def __init__(self, place: Path, sock: Path) -> None:
        self.sock = sock
        self.mounts = place / "mounts"
        self.log = place / "log"
        self._env = {
            **os.environ,
            **environment(),
            "EASYFUSE_MOUNT_PATH": str(self.mounts),
            "EASYFUSE_MOUNT_DB": str(place / "known" / "mounts.json"),
        }
        self._process: subprocess.Popen[bytes] | None = None
        place.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log where it does not come up."""
        self.sock.parent.mkdir(parents=True, exist_ok=True)
        self.sock.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "easyfuse", "-s", str(self.sock)],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _SECONDS
        while not _listens(self.sock):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"easyfuse did not come up: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def mounted(self) -> list[str]:
        """Names of the volumes that are mounted now."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = (Path(line.split()[4]) for line in lines)
        return sorted(point.name for point in points if point.parent == self.mounts)


def _listens(sock: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(sock)) == 0


@contextmanager
def easyfuse(place: Path, sock: Path) -> Iterator[Easyfuse]:
    """Running, and gone at the end with what it has mounted."""
    made = Easyfuse(place, sock)
    with _helper_of_mount(place / "sbin"):
        try:
            made.start()
            yield made
        finally:
            made.kill()
            for name in made.mounted():
                subprocess.run(["umount", made.mounts / name], check=True)


@contextmanager
def _helper_of_mount(folder: Path) -> Iterator[None]:
    if not is_isolated():
        raise RuntimeError("/usr/sbin would be everybody's: isolate the process first")
    folder.mkdir(parents=True)
    helper = folder / "mount.fuse"
    helper.write_text(f'#!/bin/sh\n{_exports()}\nexec {program("mount.fuse3")} "$@"\n')
    helper.chmod(0o755)
    subprocess.run(
        ["mount", "-t", "overlay", "none", "/usr/sbin", "-o", f"lowerdir={folder}:/usr/sbin"], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "/usr/sbin"], check=True)


def _exports() -> str:
    known = environment()
    return "\n".join(f"export {name}='{known[name]}'" for name in ("PATH", "LD_LIBRARY_PATH"))
