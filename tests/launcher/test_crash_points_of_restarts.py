"""The launcher killed at each point of what follows a container's end: the next one does what the policy wants."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cnm.kernel.processes import has_ended
from tests.support.launcher_crashes import Forks, die_at_points
from tests.support.launcher_left import left
from tests.support.small_containers import eventually

POLICIES: dict[str, dict[str, Any]] = {
    "no": {"Name": "no"},
    "on-failure": {"Name": "on-failure", "MaximumRetryCount": 1},
    "always": {"Name": "always"},
    "unless-stopped": {"Name": "unless-stopped"},
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_launcher_killed_within_a_restart(tidy: Forks, policy: str) -> None:
    points = die_at_points(lambda at: _play(tidy, policy, at))

    assert len(points) > 2


def _play(forks: Forks, policy: str, at: int) -> dict[str, Any]:
    """Its process ends, the launcher dies there; look at what the next one makes of it, and remove it."""
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"RestartPolicy": POLICIES[policy]}}
    forks.serve()
    forks.done("POST", "/containers/create?name=one", body)
    forks.done("POST", "/containers/one/start")
    forks.kill()
    played = forks.ask(verb="end", arguments=("one", policy != "no"), at=at)
    where = f"{policy}: died at {at}: {played['points'][-2:]}"
    forks.serve()
    if policy == "no":
        state = _state(forks)
        assert (state["Status"], state["ExitCode"]) == ("exited", 137), where
    else:
        eventually(lambda: _state(forks)["Running"])
        assert Path(f"/proc/{_state(forks)['Pid']}").exists(), where
        assert forks.done("GET", "/containers/one/json")["RestartCount"] <= 1, where
        _follow_policy(forks, policy, where)
    forks.clear()
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    return played


def _follow_policy(forks: Forks, policy: str, where: str) -> None:
    """It does so still: one that is to start again twice at most, whenever it was cut off, is not started for ever."""
    if policy == "on-failure":
        for _ in range(2):  # a restart that was not counted is one more
            if _ended(forks) == "exited":
                return
        raise AssertionError(where)
    assert _ended(forks) == "running", where
    forks.done("POST", "/containers/one/stop?t=0")
    assert _state(forks)["Status"] == "exited", where


def _ended(forks: Forks) -> str:
    """Its process is killed; the state that it comes to rest in."""
    before = _state(forks)["Pid"]
    assert before
    os.kill(before, signal.SIGKILL)
    assert has_ended(before, 20)
    eventually(lambda: _state(forks)["Pid"] != before)
    forks.request("POST", "/containers/one/rename?name=one")  # waits until what follows the end has been done
    eventually(lambda: _state(forks)["Status"] != "restarting")
    return str(_state(forks)["Status"])


def _state(forks: Forks) -> Any:
    return forks.done("GET", "/containers/one/json")["State"]
