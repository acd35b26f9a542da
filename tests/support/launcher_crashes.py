"""Forks of one program as launchers over one place, for tests that kill them; see `launcher_forks`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnm.kernel.processes import has_ended
from tests.support import launcher as lab
from tests.support.cnmd import UnixConnection
from tests.support.daemon_starts import from_nothing
from tests.support.small_containers import eventually
from tests.support.thorough import THOROUGH
from tests.support.unpacked import environment

OTHERS = "10.98.0.0/24"
"""The addresses of the network `other`."""
_PLAYED = 2
"""Points of each verb where not all are played."""


class Forks:
    """Launchers that are forks of one program, over the place of `launcher`."""

    def __init__(self, launcher: lab.Launcher) -> None:
        self.launcher = launcher
        self._pid = 0
        place = launcher.place
        command = [
            sys.executable,
            "-m",
            "tests.support.launcher_forks",
            str(place / "root"),
            str(place / "run"),
        ]
        self._log = (place / "forks.log").open("ab")
        self._process = launcher.popen(
            [*command, str(place / "launcher.toml"), str(place / "points")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **environment()},
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, (self.launcher.place / "forks.log").read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def is_serving(self) -> bool:
        return self._pid != 0

    def serve(self) -> None:
        self._pid = self.ask(serve=True)["pid"]
        eventually(self.launcher.answers)

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            assert has_ended(self._pid, 20)
        self._pid = 0

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = UnixConnection(self.launcher.socket)
        with contextlib.closing(connection):
            given = json.dumps(body) if body is not None else None
            connection.request(method, path, given, {"Content-Type": "application/json"} if given else {})
            answer = connection.getresponse()
            text = answer.read().decode()
        return answer.status, json.loads(text) if text.strip() else None

    def done(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.request(method, path, body)
        assert status < 400, f"{method} {path}: {status} {answer}\n{self.log}"
        return answer

    @property
    def log(self) -> str:
        return (self.launcher.place / "forks.log").read_text()[-1500:]

    def clear(self) -> None:
        """Every container goes, the youngest first."""
        for found in self.done("GET", "/containers/json?all=1"):
            self.done("DELETE", f"/containers/{found['Id']}?force=1")

    def close(self) -> None:
        self.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        self._log.close()


@contextmanager
def forking() -> Iterator[Forks]:
    """Beside a cnmd with the network `other`."""
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), started=from_nothing) as launcher,
    ):
        launcher.place.chmod(0o711)  # other users have to pass through
        launcher.cnmd.create_network("other", IPAM={"Config": [{"Subnet": OTHERS}]})
        launcher.stop()
        forks = Forks(launcher)
        try:
            yield forks
        finally:
            forks.close()
            launcher.start()
            launcher.clear()
            launcher.cnmd.ask("DELETE", "/networks/other")


def die_at_points(play: Callable[[int], dict[str, Any]]) -> list[str]:
    """`play` is told where to die, -1 for nowhere, and answers as `Forks.ask`. It dies at one point after another.

    What lies on the way. Raises AssertionError where the verb fails.
    """
    played = play(-1)
    assert (played["died"], played["error"]) == (False, "")
    points: list[str] = played["points"]
    for at in _chosen(len(points)):
        played = play(at)
        assert played["died"] or played["error"] == "", played["error"]
        print(f"died {played['points'][-1]} ({at} of {len(points)})")
    return points


def _chosen(count: int) -> Sequence[int]:
    """Which of so many points are played."""
    if THOROUGH:
        return range(count)
    return [round((number + 0.5) * count / _PLAYED) for number in range(_PLAYED)]
