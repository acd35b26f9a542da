"""Commands that go on: `cnmctl logs -f`, `events` and `stats`, against a real dockerd."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from typing import Any

import pytest

from tests.docker.shown_stage import (
    Stage,
    running,
)
from tests.support.dockerd import PROGRAMS
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
    terminal, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    with os.fdopen(terminal, "rb", buffering=0) as screen, running(stage, "stats", stdout=inner) as process:
        os.close(inner)
        first = _frame(screen, lambda frame: "plain" in frame)
        stage.daemon.docker("run", "-d", "--name", "comes", "busybox", "sleep", "1000")
        second = _frame(screen, lambda frame: re.search(r"comes .*iB /", frame) is not None)
        stage.daemon.docker("rm", "-f", "comes")
        third = _frame(screen, lambda frame: "comes" not in frame)
        process.send_signal(signal.SIGINT)

    assert re.search(r"CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS", first)
    assert re.search(r"plain +\d+\.\d\d% +[\d.]+KiB / [\d.]+GiB +\d\.\d\d% .* 1$", first, re.MULTILINE)
    assert "comes" in second
    assert "plain" in third
    assert process.returncode == 130


def _frame(screen: Any, wanted: Callable[[str], bool]) -> str:
    """The first whole picture that is as wanted, without what moves the cursor."""
    drawn = ""
    while True:
        drawn += screen.read(65536).decode()
        *frames, drawn = drawn.split("\x1b[H")
        for frame in frames:
            plain = re.sub(r"\x1b\[[0-9]*[A-Z]", "", frame).replace("\r", "")
            if "CONTAINER ID" in plain and wanted(plain):
                return plain
