"""Commands that go on: `cnmctl logs -f`, `events` and `stats`, against a real dockerd."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.docker.shown_stage import Stage, command_line, running, variables
from tests.support.dockerd import PROGRAMS
from tests.support.terminal import on_a_terminal
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(lacking(*PROGRAMS) != "", reason=lacking(*PROGRAMS))


def test_logs_are_followed_to_the_containers_end(stage: Stage) -> None:
    script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo later >&2"
    stage.daemon.docker("run", "-d", "--name", "followed", "busybox", "sh", "-c", script)

    with running(stage, "logs", "-f", "followed", stderr=subprocess.STDOUT) as process:
        first = process.stdout.readline()
        stage.daemon.docker("exec", "followed", "touch", "/go")
        rest = process.stdout.read()

    assert (first, rest, process.returncode) == (b"first\n", b"later\n", 0)


def test_events_are_told_as_they_happen(stage: Stage) -> None:
    with running(stage, "events", "-f", "type=container", "-f", "event=rename", "--since", "1s") as process:
        stage.daemon.docker("create", "--name", "before", "busybox", "true")
        stage.daemon.docker("rename", "before", "after")
        line = process.stdout.readline().decode()
        process.send_signal(signal.SIGINT)

    assert re.search(r" container rename [0-9a-f]{64} \(.*name=after, oldName=/before\)$", line)
    assert process.returncode == 130


def test_statistics_are_drawn_again_and_again_as_containers_come_and_go(stage: Stage) -> None:
    with on_a_terminal([*command_line(stage), "stats"], env=variables(), rows=24, columns=200) as terminal:
        first = terminal.picture(lambda drawn: "plain" in drawn)
        stage.daemon.docker("run", "-d", "--name", "comes", "busybox", "sleep", "1000")
        terminal.picture(lambda drawn: re.search(r"comes .*iB /", drawn))
        stage.daemon.docker("rm", "-f", "comes")
        last = terminal.picture(lambda drawn: "comes" not in drawn)
        terminal.process.send_signal(signal.SIGINT)
        code = terminal.exit_code()

    assert re.search(r"CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS", first)
    assert re.search(r"plain +\d+\.\d\d% +[\d.]+KiB / [\d.]+GiB +\d\.\d\d% .* 1$", first, re.MULTILINE)
    assert "plain" in last
    assert code == 130
