"""runc that hangs, or dies by a signal before or after its work, and conmon killed within a creation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import launcher as lab
from tests.support.faulty_programs import FaultyPrograms, How
from tests.support.launcher import Launcher
from tests.support.launcher_left import left, monitors
from tests.support.small_containers import eventually
from tests.support.unpacked import environment, lacking

_SLEEPER = ("busybox", "sleep", "1000")
_IMPATIENT = (
    "from cnm.launcher import monitor, runtime; runtime.PATIENCE = 4.0; monitor._PATIENCE = 6.0; "
    "monitor._PARTING_SECONDS = 1.0"
)
"""Minutes otherwise."""
_TOLD = {How.HANGS: "runc gave no answer for 4 s", How.DIES: "runc was killed by SIGKILL"}
_TOLD[How.DIES_AFTERWARDS] = _TOLD[How.DIES]
_CREATE = "OCI runtime create failed: "
_TOLD_OF_CREATION = {
    How.HANGS: f"{_CREATE}runc gave no answer for 6 s",
    How.DIES: f"{_CREATE}conmon ended without a word",
    How.DIES_AFTERWARDS: f"{_CREATE}runc gave no answer for 6 s",
}
"""conmon says nothing of a runc that dies, and waits for the end of its error stream, which the container has too."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """One whose programs fail when they are told to, and which waits for them for seconds."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        programs = FaultyPrograms(Path(folder))
        with lab.running(Path(folder), config=programs.config, before=_IMPATIENT) as launcher:
            yield launcher


@pytest.fixture
def programs(launcher: Launcher) -> Iterator[FaultyPrograms]:
    """Afterwards nothing is left of what a test made."""
    programs = FaultyPrograms(launcher.place)
    yield programs
    programs.mend()
    launcher.clear()
    assert left(launcher) == []


@pytest.mark.parametrize("how", [How.HANGS, How.DIES, How.DIES_AFTERWARDS])
@pytest.mark.parametrize("verb", ["create", "start"])
def test_what_does_not_start_leaves_nothing(
    launcher: Launcher, programs: FaultyPrograms, verb: str, how: How
) -> None:
    programs.fail("runc", verb, how)

    code, error = launcher.fails("run", "-d", "--name", "one", *_SLEEPER)

    assert code == 125
    assert (_TOLD if verb == "start" else _TOLD_OF_CREATION)[how] in error
    assert _state(launcher)["Status"] == "created"
    assert _state(launcher)["ExitCode"] == 128
    assert left(launcher) == [f"file {_ident(launcher)}"]
    programs.mend()
    launcher.docker("start", "one")
    assert launcher.docker("exec", "one", "echo", "here") == "here"


@pytest.mark.parametrize("how", [How.HANGS, How.DIES])
@pytest.mark.parametrize("command", [("kill", "one"), ("stop", "-t", "0", "one"), ("rm", "-f", "one")])
def test_what_is_not_killed_runs_on(
    launcher: Launcher, programs: FaultyPrograms, command: tuple[str, ...], how: How
) -> None:
    launcher.docker("run", "-d", "--name", "one", *_SLEEPER)
    programs.fail("runc", "kill", how)

    assert _TOLD[how] in launcher.fails(*command)[1]

    assert launcher.docker("exec", "one", "echo", "here") == "here"
    assert _state(launcher)["Status"] == "running"
    programs.mend()
    launcher.docker(*command)
    assert launcher.docker("ps", "-q") == ""


def test_what_is_killed_by_one_that_dies_has_ended(launcher: Launcher, programs: FaultyPrograms) -> None:
    launcher.docker("run", "-d", "--name", "one", *_SLEEPER)
    programs.fail("runc", "kill", How.DIES_AFTERWARDS)

    launcher.run("kill", "one")

    assert launcher.docker("wait", "one") == "137"
    assert _state(launcher)["Status"] == "exited"


@pytest.mark.parametrize("how", [How.HANGS, How.DIES, How.DIES_AFTERWARDS])
def test_what_is_not_deleted_has_ended_and_is_deleted_by_the_next_try(
    launcher: Launcher, programs: FaultyPrograms, how: How
) -> None:
    launcher.docker("run", "-d", "--name", "one", *_SLEEPER)
    programs.fail("runc", "delete", how)

    launcher.docker("stop", "-t", "0", "one")

    assert (_state(launcher)["Status"], _state(launcher)["ExitCode"]) == ("exited", 137)
    if how is not How.DIES_AFTERWARDS:
        assert _TOLD[how] in launcher.fails("rm", "one")[1]
        assert _state(launcher)["Status"] == "dead"
    programs.mend()
    launcher.docker("rm", "one")
    assert left(launcher) == []


def test_a_monitor_killed_within_a_creation_leaves_nothing(
    launcher: Launcher, programs: FaultyPrograms
) -> None:
    programs.fail("runc", "create", How.HANGS)
    running = subprocess.Popen(
        launcher.command("run", "-d", "--name", "one", *_SLEEPER),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: _creating(launcher))
    (monitor,) = monitors(launcher)
    os.kill(monitor, signal.SIGKILL)
    _, error = running.communicate(timeout=30)

    assert running.returncode == 125
    assert f"{_CREATE}conmon ended without a word" in error
    assert _state(launcher)["Status"] == "created"
    assert left(launcher) == [f"file {_ident(launcher)}"]
    programs.mend()
    launcher.docker("start", "one")


def test_a_command_that_is_not_run_because_runc_dies(launcher: Launcher, programs: FaultyPrograms) -> None:
    launcher.docker("run", "-d", "--name", "one", *_SLEEPER)
    programs.fail("runc", "exec", How.DIES)

    done = launcher.run("exec", "one", "true")

    assert done.returncode == 126
    assert "OCI runtime exec failed: runc was killed by SIGKILL" in done.stdout + done.stderr
    programs.mend()
    launcher.docker("exec", "one", "true")


def _creating(launcher: Launcher) -> bool:
    """Whether conmon has begun to have the container made, and said so."""
    files = (launcher.run_dir / "launcher/containers").glob("*/conmon.pid")
    return any(path.read_text() for path in files) and len(monitors(launcher)) == 1


def _state(launcher: Launcher) -> Any:
    return json.loads(launcher.docker("inspect", "one"))[0]["State"]


def _ident(launcher: Launcher) -> str:
    return launcher.docker("inspect", "-f", "{{.Id}}", "one")
