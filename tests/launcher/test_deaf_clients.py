"""Clients that take nothing of a stream for longer than the server waits for anything else: they miss nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import launcher as lab
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.unpacked import environment, lacking

_LIMIT = "from cnm.http import server; server._IDLE_SECONDS = 1.0"
"""Seconds instead of ten, so that nobody need wait for them."""
_PATIENCE = 30.0
_LINES = 200_000
"""More than pipes and sockets take that nobody reads from."""
_RENAMED = 60
"""Events of 20 KB each: the same."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), before=_LIMIT) as launcher,
    ):
        yield launcher


@contextmanager
def _suspended(docker: Launcher, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose first line was read, and that is stopped as ^Z stops it; nobody reads on."""
    command = docker.command(*words)
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()


def test_a_suspended_client_misses_nothing_of_a_log(docker: Launcher) -> None:
    script = f"echo 0; while [ ! -e /go ]; do sleep 0.05; done; seq {_LINES}; touch /said; exec sleep 1000"
    docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", script)

    with _suspended(docker, "logs", "-f", "one") as logs:
        docker.docker("exec", "one", "sh", "-c", "touch /go; while [ ! -e /said ]; do sleep 0.05; done")
        docker.await_limit()
        logs.send_signal(signal.SIGCONT)
        assert logs.stdout
        lines = [logs.stdout.readline() for _ in range(_LINES)]
        docker.docker("kill", "one")
        rest, _ = logs.communicate(timeout=_PATIENCE)

    assert lines == [f"{number}\n" for number in range(1, _LINES + 1)]
    assert (rest, logs.returncode) == ("", 0)


def test_a_suspended_client_misses_no_event(docker: Launcher) -> None:
    docker.docker("create", "--name", "first", "--label", f"large={'x' * 20_000}", "busybox")

    names = [f"name{number}" for number in range(_RENAMED)]

    with _suspended(docker, "events", "--since", "0", "--format", "{{json .Actor.Attributes}}") as events:
        for old, new in pairwise(["first", *names]):
            assert ask(docker.socket, "POST", f"/containers/{old}/rename?name={new}").status == 204
        docker.await_limit()
        events.send_signal(signal.SIGCONT)
        assert events.stdout
        told = list[str]()
        while told[-1:] != names[-1:]:
            told.append(json.loads(events.stdout.readline())["name"])

    assert told[-_RENAMED:] == names
