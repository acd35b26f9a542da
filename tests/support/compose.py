"""Debian's docker-compose 1.29, unpacked by `make setup`, run by a Python that it fits."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.unpacked import ROOT, environment

_PACKAGES = ROOT / "usr" / "lib" / "python3" / "dist-packages"
_PYTHONS = ("/usr/bin/python3", sys.executable)


@functools.cache
def lacking() -> str:
    """Why it cannot run here, "" where it can: the reason of a skip."""
    if not (_PACKAGES / "compose").exists():
        return f"docker-compose not unpacked in {ROOT}: run make setup"
    return "" if _python() else "docker-compose 1 needs a Python that still has distutils: 3.11"


@functools.cache
def _python() -> str:
    """Debian's own, or the one that runs the tests; "" where neither has all that compose imports."""
    for python in filter(os.path.exists, _PYTHONS):
        if (
            subprocess.run(
                [python, "-c", "import compose.cli.main"], env=_environment(), check=False
            ).returncode
            == 0
        ):
            return python
    return ""


def _environment() -> dict[str, str]:
    return {"PATH": environment()["PATH"], "HOME": "/root", "PYTHONPATH": str(_PACKAGES)}


class Compose:
    """The project `project` of a folder with its compose file, at the daemon of a socket."""

    def __init__(self, folder: Path, socket: str, project: str = "shop") -> None:
        self._folder, self._project = folder, project
        self._env = {**_environment(), "DOCKER_HOST": f"unix://{socket}"}

    def command(self, *arguments: str) -> list[str]:
        return [_python(), "-m", "compose", "--ansi", "never", "-p", self._project, *arguments]

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """In the background, with its output to be read."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self._folder,
            env={**self._env, "PYTHONUNBUFFERED": "1", **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """What it prints, with what it says of its progress. Raises RuntimeError where it fails."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self._folder,
            env={**self._env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"docker-compose {' '.join(arguments)}: {done.returncode}: {done.stdout}")
        return done.stdout.strip()
