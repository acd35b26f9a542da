"""Processes' ends, whoever their parent is, and whatever others leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from cnm.kernel import processes
from cnm.launcher import exits
from cnm.launcher.exits import Exits
from tests.support.small_containers import PATIENCE, eventually

_ORPHAN = """
import os, sys
pid = os.fork()
if pid == 0:
    os.close(1)
    sys.stdin.read()
    os._exit(7)
print(pid, flush=True)
"""
"""Leaves a process behind that ends with its input."""


class Ends:
    """Collects what is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self._more = threading.Semaphore(0)

    def __call__(self, what: object) -> None:
        self.told.append(what)
        self._more.release()

    def wait(self) -> object:
        assert self._more.acquire(timeout=PATIENCE), "nothing was told"
        return self.told[-1]


@pytest.fixture
def watcher() -> Iterator[Exits]:
    made = Exits()
    yield made
    made.close()


def _orphan() -> tuple[int, subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", _ORPHAN], stdin=pipe, stdout=pipe, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.stdout.close()
    parent.wait()
    return pid, parent


def test_an_orphans_code_is_told_and_it_is_reaped(watcher: Exits) -> None:
    ends = Ends()
    pid, parent = _orphan()
    watcher.on_end(pid, ends)
    assert parent.stdin

    parent.stdin.close()

    assert ends.wait() == 7
    assert not os.path.exists(f"/proc/{pid}")


def test_a_process_that_has_ended_unwatched_still_has_its_code(watcher: Exits) -> None:
    ends = Ends()
    pid, _ = _orphan()
    assert processes.kill(pid, signal.SIGKILL)
    eventually(lambda: _state(pid) == "Z")

    watcher.on_end(pid, ends)

    assert ends.wait() == 137


def test_a_process_that_is_not_ours_is_told_without_a_code(watcher: Exits) -> None:
    ends = Ends()
    reader, writer = os.pipe()
    script = f"import os, subprocess; p = subprocess.Popen(['cat'], stdin={reader}); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, pass_fds=(reader,), text=True
    )
    assert parent.stdout
    watcher.on_end(int(parent.stdout.readline()), ends)
    os.close(reader)

    os.close(writer)

    assert ends.wait() is None
    parent.stdout.close()
    assert parent.wait() == 0


def test_what_has_ended_or_is_another_is_told_at_once(watcher: Exits) -> None:
    ends = Ends()
    child = subprocess.Popen(["true"])
    child.wait()

    watcher.watch("gone", child.pid, ends)
    assert ends.wait() == "gone"
    watcher.watch("another", os.getpid(), ends, begun=1)
    assert ends.wait() == "another"
    watcher.watch("this", os.getpid(), ends, begun=processes.started(os.getpid()))
    watcher.watch("last", child.pid, ends)
    assert ends.wait() == "last"
    assert "this" not in ends.told


def test_a_call_that_fails_does_not_end_the_watch(watcher: Exits, caplog: pytest.LogCaptureFixture) -> None:
    ends = Ends()

    def fail(_key: str) -> None:
        raise RuntimeError("on purpose")

    watcher.watch("first", 2**22 - 1, fail)
    watcher.watch("second", 2**22 - 1, ends)

    assert ends.wait() == "second"
    assert "what follows a process' end failed" in caplog.text


def test_what_others_leave_behind_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "_STRAY_SECONDS", 0.02)
    again = Exits()
    pid, parent = _orphan()
    assert parent.stdin

    parent.stdin.close()

    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    again.close()


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]
