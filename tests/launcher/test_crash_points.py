"""The launcher killed before, during and after whatever a verb does outside: the next one undoes it, or takes it up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cnm.launcher.exits import has_ended
from tests.support import launcher as lab
from tests.support.cnmd import UnixConnection
from tests.support.daemon_starts import from_nothing
from tests.support.launcher_left import left
from tests.support.small_containers import eventually
from tests.support.thorough import THOROUGH
from tests.support.unpacked import environment, lacking

_BODY = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
_ENDED = "exited"


class Case(NamedTuple):
    """A verb of the engine on the container `one`, which is brought to a state first."""

    verb: str
    arguments: tuple[Any, ...]
    before: tuple[tuple[str, str], ...]
    """Requests, method and path."""
    afterwards: frozenset[str]
    """States that are right when the verb was cut off; "" for a container that is not there."""
    done: str
    """The state after the verb, which is asked for again."""
    removes_itself: bool = False


_CREATE = ("POST", "/containers/create?name=one")
_START = ("POST", "/containers/one/start")
_RUNNING = (_CREATE, _START)
_PAUSED = (*_RUNNING, ("POST", "/containers/one/pause"))
_EXITED = (*_RUNNING, ("POST", "/containers/one/kill"))

CASES = {
    "create": Case("create", ("one", _BODY), (), frozenset({"", "created"}), "created"),
    "start": Case("run", ("one",), (_CREATE,), frozenset({"created", "running"}), "running"),
    "start again": Case("run", ("one",), _EXITED, frozenset({_ENDED, "running"}), "running"),
    "stop": Case("stop", ("one", 0), _RUNNING, frozenset({"running", _ENDED}), _ENDED),
    "kill": Case("kill", ("one",), _RUNNING, frozenset({"running", _ENDED}), _ENDED),
    "rm -f": Case("remove", ("one",), _RUNNING, frozenset({"running", _ENDED, ""}), ""),
    "rm -f paused": Case("remove", ("one",), _PAUSED, frozenset({"paused", "running", _ENDED, ""}), ""),
    "rm": Case("remove", ("one",), _EXITED, frozenset({_ENDED, ""}), ""),
    "start --rm": Case(
        "run", ("one",), (_CREATE,), frozenset({"created", "running", ""}), "running", removes_itself=True
    ),
    "end of --rm": Case("kill", ("one",), _RUNNING, frozenset({"running", ""}), "", removes_itself=True),
    "rename": Case("rename", ("one", "two"), _RUNNING, frozenset({"running"}), "running"),
    "pause": Case("pause", ("one",), _RUNNING, frozenset({"running", "paused"}), "paused"),
    "unpause": Case("unpause", ("one",), _PAUSED, frozenset({"running", "paused"}), "running"),
    "update": Case("update", ("one", {"PidsLimit": 77}), _RUNNING, frozenset({"running"}), "running"),
    "restart": Case("restart", ("one", 0), _RUNNING, frozenset({"running", _ENDED}), "running"),
    "connect": Case("connect", ("other", "one", {}), _RUNNING, frozenset({"running"}), "running"),
    "disconnect": Case("disconnect", ("bridge", "one"), _RUNNING, frozenset({"running"}), "running"),
}
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
        eventually(self.launcher._answers)

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

    def close(self) -> None:
        self.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        self._log.close()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), started=from_nothing) as launcher,
    ):
        launcher.cnmd.create_network("other")
        launcher.stop()
        forks = Forks(launcher)
        try:
            yield forks
        finally:
            forks.close()
            launcher.start()
            launcher.clear()
            launcher.cnmd.ask("DELETE", "/networks/other")


@pytest.fixture
def tidy(forks: Forks) -> Iterator[Forks]:
    """What a test that failed has left does not have the next one fail."""
    yield forks
    if forks.is_serving:
        for found in forks.done("GET", "/containers/json?all=1"):
            forks.done("DELETE", f"/containers/{found['Id']}?force=1")
        forks.kill()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CASES)
def test_a_launcher_killed_within(tidy: Forks, name: str) -> None:
    forks = tidy
    case = CASES[name]
    played = _play(forks, case, -1)
    assert (played["died"], played["error"]) == (False, "")
    points = played["points"]
    assert len(points) > 2

    for at in _chosen(len(points)):
        played = _play(forks, case, at)
        assert played["died"] or played["error"] == "", f"{name}: {played['error']}"
        print(f"{name}: died {played['points'][-1]} ({at} of {len(points)})")


def _chosen(count: int) -> list[int]:
    if THOROUGH:
        return list(range(count))
    return [round((number + 0.5) * count / _PLAYED) for number in range(_PLAYED)]


def _play(forks: Forks, case: Case, at: int) -> dict[str, Any]:
    """Die there, look, do it again, remove: nothing is left. The answer is how it died."""
    forks.serve()
    for method, path in case.before:
        forks.done(method, path, _body(case) if path.startswith("/containers/create") else None)
    forks.kill()
    options = {"force": True} if case.verb in ("remove", "disconnect") else {}
    played = forks.ask(verb=case.verb, arguments=case.arguments, options=options, at=at)
    where = f"{case.verb} died at {at}: {played['points'][-2:]}"
    forks.serve()
    name = _name(forks)
    assert _state(forks, name) in (case.afterwards if played["died"] else {case.done}), (
        f"{where}\n{forks.log}"
    )
    _again(forks, case, where)
    if _name(forks):
        forks.done("DELETE", f"/containers/{_name(forks)}?force=1")
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    return played


def _body(case: Case) -> dict[str, Any]:
    return {**_BODY, "HostConfig": {"AutoRemove": case.removes_itself}}


def _name(forks: Forks) -> str:
    """Of the container, "" where there is none."""
    found = forks.done("GET", "/containers/json?all=1")
    assert len(found) <= 1
    return str(found[0]["Names"][0]).removeprefix("/") if found else ""


def _state(forks: Forks, name: str) -> str:
    """Docker's word, checked by what the processes say."""
    if not name:
        return ""
    state = forks.done("GET", f"/containers/{name}/json")["State"]
    is_there = state["Pid"] and Path(f"/proc/{state['Pid']}").exists()
    assert bool(is_there) == state["Running"], state
    return str(state["Status"])


_PATHS = {
    "create": ("POST", "/containers/create?name=one", _BODY),
    "run": ("POST", "/containers/one/start", None),
    "stop": ("POST", "/containers/one/stop?t=0", None),
    "kill": ("POST", "/containers/one/kill", None),
    "remove": ("DELETE", "/containers/one?force=1", None),
    "rename": ("POST", "/containers/one/rename?name=two", None),
    "pause": ("POST", "/containers/one/pause", None),
    "unpause": ("POST", "/containers/one/unpause", None),
    "update": ("POST", "/containers/one/update", {"PidsLimit": 77}),
    "restart": ("POST", "/containers/one/restart?t=0", None),
    "connect": ("POST", "/networks/other/connect", {"Container": "one"}),
    "disconnect": ("POST", "/networks/bridge/disconnect", {"Container": "one"}),
}
_DONE_BEFORE = {"remove": 404, "rename": 404, "connect": 403} | dict.fromkeys(
    ("create", "kill", "pause", "unpause", "disconnect"), 409
)
"""What is answered where the verb was wholly done when the launcher died."""


def _again(forks: Forks, case: Case, where: str) -> None:
    """It succeeds, or says that it was done before; then it is."""
    method, path, body = _PATHS[case.verb]
    status, answer = forks.request(method, path, body)
    if case.removes_itself and status == 404:
        assert _name(forks) == "", where
        return
    done_before = _DONE_BEFORE.get(case.verb)
    assert status < 400 or status == done_before, f"{where}: again: {status} {answer}\n{forks.log}"
    eventually(
        lambda: _state(forks, _name(forks)) == case.done
    )  # what removes itself does so behind the answer
    name = _name(forks)
    if case.verb == "rename":
        (sandbox,) = forks.launcher.cnmd.ask("GET", "/cnm/v1/sandboxes")
        assert (name, sandbox["Name"]) == ("two", "two"), where
    if case.verb in ("connect", "disconnect"):
        networks = forks.done("GET", f"/containers/{name}/json")["NetworkSettings"]["Networks"]
        assert sorted(networks) == (["bridge", "other"] if case.verb == "connect" else []), where
    if case.verb == "update":
        assert {path.read_text().strip() for path in _pids_limits(forks)} == {"77"}, where


def _pids_limits(forks: Forks) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{forks.launcher.cgroup}/*/pids.max"))
