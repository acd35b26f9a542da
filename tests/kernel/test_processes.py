"""Processes that are named by their pid and when they began."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from cnm.kernel import processes

_SECONDS = 20.0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["sleep", "1000"])
    yield made
    made.kill()
    made.wait()


def test_a_signal_goes_to_no_other_process(child: subprocess.Popen[bytes]) -> None:
    begun = processes.started(child.pid)

    assert not processes.kill(child.pid, signal.SIGKILL, begun + 1)
    assert child.poll() is None
    assert processes.kill(child.pid, signal.SIGKILL, begun)
    assert child.wait() == -signal.SIGKILL
    assert not processes.kill(child.pid, signal.SIGKILL, begun)


def test_one_that_nobody_has_waited_for_has_ended(child: subprocess.Popen[bytes]) -> None:
    begun = processes.started(child.pid)
    assert processes.is_running(child.pid, begun)
    assert not processes.has_ended(child.pid, 0, begun)

    child.kill()

    assert processes.has_ended(child.pid, _SECONDS, begun)
    assert not processes.is_running(child.pid, begun)
    assert processes.started(child.pid) == begun


def test_one_that_began_at_another_time_has_ended(child: subprocess.Popen[bytes]) -> None:
    begun = processes.started(child.pid)

    assert processes.has_ended(child.pid, 0, begun + 1)
    assert not processes.is_running(child.pid, begun + 1)


def test_there_is_nothing_of_a_pid_that_nobody_has(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()

    assert processes.started(child.pid) == 0
    assert not processes.is_running(child.pid, 0)
    assert processes.has_ended(child.pid, 0)


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_of_a_child_is_read_once(command: str, code: int) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ)
    descriptor = os.pidfd_open(pid)

    assert processes.await_end(descriptor)
    assert processes.reap(descriptor) == code
    assert processes.reap(descriptor) is None
    os.close(descriptor)


def test_a_child_that_takes_too_long_is_killed(child: subprocess.Popen[bytes]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        processes.exit_code(child, 0)

    assert child.returncode == -signal.SIGKILL


def test_the_exit_code_of_a_child_is_that_of_its_end() -> None:
    assert processes.exit_code(subprocess.Popen(["sh", "-c", "exit 3"]), _SECONDS) == 3
