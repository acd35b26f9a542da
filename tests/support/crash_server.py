"""Plays one crash at a time, each in namespaces of its own: jobs as JSON lines on stdin, results on stdout.

A process that has imported everything forks one for each job, so that a crash costs no start of Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, NoReturn
from unittest.mock import patch

from netns_fixtures import syscalls
from tests.support import crash_calls, crash_stage
from tests.support.crash_calls import Call, Outcome
from tests.support.crash_daemon import InProcessDaemon, do_without_resolver
from tests.support.crash_scenarios import SCENARIOS, Scenario, Step

_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_MOST_SECONDS = 60

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    patch("cnm.daemon.entry_points", functools.cache(entry_points)).start()
    crash_stage.leave()
    _warm_up()
    gc.freeze()
    for line in sys.stdin:
        print(_in_a_pid_namespace(line), flush=True)


def _warm_up() -> None:
    """Whatever is made once a process is made before the first fork."""
    played = _started("warm")
    for step in SCENARIOS["network disconnect"].setup:
        step(played.controller)
    _whole(played)
    played.clear()
    played.close()
    crash_stage.picture()


def _in_a_pid_namespace(line: str) -> str:
    """The result of a job, played by the first process of a PID namespace: whatever it leaves dies with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.unshare(_CLONE_NEWPID)
        if os.fork() == 0:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            _answer(writer, line)
        signal.alarm(_MOST_SECONDS)
        os.wait()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text or json.dumps({"error": f"the stage died, at the latest after {_MOST_SECONDS} s"})


def _answer(writer: int, line: str) -> NoReturn:
    result: dict[str, Any] = {}
    with _caught(lambda trace: result.update(error=trace)):
        crash_stage.enter()
        result |= play(SCENARIOS, **json.loads(line))
    with os.fdopen(writer, "w") as file:
        json.dump(result, file)
    os._exit(0)


def _caught(tell: Callable[[str], object]) -> contextlib.ExitStack:
    """Tell of whatever goes wrong in the block, and go on."""

    def settle(_kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is not None:
            tell("".join(traceback.format_exception(error)))
        return True

    stack = contextlib.ExitStack()
    stack.push(settle)
    return stack


def play(
    scenarios: dict[str, Scenario],
    name: str,
    kill_at: int = 0,
    verb_kill_at: int = 0,
    instead: int | None = None,
    power_cut: bool = False,
    twice: bool = True,
) -> dict[str, Any]:
    """One crash, and what a start-up makes of it, and where `twice` is set, another one.

    `kill_at` 0: the verb (or the start-up) comes to its end and the process is killed then. `instead`: the step of
    that number in `between` in place of the verb, -1 for nothing at all. With `power_cut` the machine goes with the
    process: what the verb wrote and did not sync is lost.
    """
    scenario = scenarios[name]
    if not scenario.names:
        do_without_resolver()
    result: dict[str, Any] = {}
    step = scenario.verb if instead is None else (*scenario.between, None)[instead]
    if not scenario.fresh:
        outcome, live = _run_verb(scenario, step, verb_kill_at if scenario.start_up else kill_at, power_cut)
        result |= {"calls": [str(call) for call in outcome.calls], "killed": outcome.killed, "live": live}
    if scenario.reboot or power_cut:
        crash_stage.reboot()
    if scenario.start_up:
        outcome = _run_start(kill_at)
        result |= {"calls": [str(call) for call in outcome.calls], "killed": outcome.killed}
    last = "first"
    if twice:
        result["first"] = _look()
        last = "second"
    result[last], result["cleared"] = _last_look(last)
    return result


def _run_verb(
    scenario: Scenario, step: Step | None, kill_at: int, power_cut: bool
) -> tuple[Outcome, dict[str, Any] | None]:
    """The setup, then the step, killed at its call number `kill_at`, else at its end after a look."""

    def body(child: _Child) -> None:
        played = _started("setup")
        for preparation in scenario.setup:
            preparation(played.controller)
        played.settle()
        child.arm()  # what was before is on the disk: syncs are watched from here on
        if step is not None:
            step(played.controller)
        played.settle()
        child.say(played.nouns())
        child.stay()

    child = _Child(body)
    child.await_arming()
    disk = crash_stage.Disk()
    outcome = child.supervise(kill_at, disk.note)
    live = None
    if not outcome.killed:
        live = {"nouns": child.hear(), **_seen()}
        child.kill()
    if power_cut:
        disk.lose_the_rest()
    return outcome, live


def _run_start(kill_at: int) -> Outcome:
    def body(child: _Child) -> None:
        child.arm()
        _started("start")
        child.say("started")
        child.stay()

    child = _Child(body)
    child.await_arming()
    outcome = child.supervise(kill_at)
    if not outcome.killed:
        child.hear()
        child.kill()
    return outcome


def _look() -> dict[str, Any]:
    """What the first start-up makes of it; that daemon is killed at rest."""

    def body(child: _Child) -> None:
        child.say(_whole(_started("first")))
        child.stay()

    child = _Child(body)
    look: dict[str, Any] = child.hear() | _seen()
    child.kill()
    return look


def _last_look(series: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what a start-up makes of it, what it would choose next and what is left when it has cleared all)."""

    def body(child: _Child) -> None:
        played = _started(series)
        child.say(_whole(played))
        child.wait()
        choices = played.next_choices()
        played.clear()
        child.say({"choices": choices, **_whole(played)})
        child.wait()
        played.close()

    child = _Child(body)
    look: dict[str, Any] = child.hear() | _seen()
    child.nod()
    cleared = child.hear() | _seen()
    child.nod()
    child.end()
    return look, cleared


def _seen() -> dict[str, Any]:
    crash_stage.await_reaper()
    return {"kernel": crash_stage.picture()}


def _whole(played: InProcessDaemon) -> dict[str, Any]:
    return {"nouns": played.nouns(), "findings": played.findings()}


def _started(series: str) -> InProcessDaemon:
    played = InProcessDaemon(crash_stage.PLACE, series)
    played.start()
    return played


class _Child:
    """A forked process that plays a daemon, and the line between it and the stage."""

    def __init__(self, body: Callable[[_Child], None]) -> None:
        self._stage, self._daemon = socket.socketpair()
        self._reader = self._stage.makefile("r")
        self._pid = os.fork()
        if self._pid == 0:
            self._play(body)
        self._daemon.close()

    def _play(self, body: Callable[[_Child], None]) -> NoReturn:
        self._stage.close()
        with _caught(self._complain):
            body(self)
        os._exit(0)

    def _complain(self, trace: str) -> None:
        self.say({"error": trace})
        self.stay()

    # In the daemon

    def arm(self) -> None:
        """Count the calls of this thread from now on."""
        self.say(crash_calls.install(self._daemon.fileno()))
        self.wait()

    def say(self, value: Any) -> None:
        data = json.dumps(value).encode() + b"\n"
        while data:
            data = data[os.write(self._daemon.fileno(), data) :]

    def wait(self) -> None:
        """Until the stage nods."""
        os.read(self._daemon.fileno(), 1)

    def stay(self) -> None:
        """Until it is killed."""
        while True:
            self.wait()

    # In the stage

    def await_arming(self) -> None:
        self._listener = int(self.hear())

    def supervise(self, kill_at: int, before: Callable[[Call], None] | None = None) -> Outcome:
        """Let it go on from where it armed itself until it says something, or is killed."""
        self.nod()
        outcome = crash_calls.supervise(self._pid, self._listener, self._stage.fileno(), kill_at, before)
        if outcome.killed:
            os.waitpid(self._pid, 0)
        return outcome

    def hear(self) -> Any:
        value = json.loads(self._reader.readline() or '{"error": "it died"}')
        if isinstance(value, dict) and "error" in value:
            self.kill()
            raise RuntimeError(value["error"])
        return value

    def nod(self) -> None:
        self._stage.send(b".")

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def end(self) -> None:
        os.waitpid(self._pid, 0)


if __name__ == "__main__":
    main()
