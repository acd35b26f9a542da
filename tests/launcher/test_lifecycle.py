"""States of containers, restart policies, health, limits, and what lists and inspect say of them."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from typing import Any

import pytest

from tests.support.launcher import Launcher
from tests.support.small_containers import eventually

_SLEEPER = ("busybox", "sleep", "1000")


def state(docker: Launcher, name: str) -> Any:
    return json.loads(docker.docker("inspect", name))[0]["State"]


def status(docker: Launcher, name: str) -> str:
    return str(state(docker, name)["Status"])


def test_from_created_to_removed(docker: Launcher) -> None:
    docker.docker("create", "--name", "one", *_SLEEPER)
    assert status(docker, "one") == "created"

    docker.docker("start", "one")
    assert status(docker, "one") == "running"
    docker.docker("pause", "one")
    assert status(docker, "one") == "paused"
    assert "is paused" in docker.fails("exec", "one", "true")[1]
    docker.docker("unpause", "one")
    docker.docker("stop", "-t", "0", "one")
    assert (status(docker, "one"), state(docker, "one")["ExitCode"]) == ("exited", 137)

    docker.docker("start", "one")
    assert "stop the container before removing or force remove" in docker.fails("rm", "one")[1].lower()
    docker.docker("rm", "-f", "one")
    assert "No such container: one" in docker.fails("start", "one")[1]


def test_what_it_writes_stays_with_it(docker: Launcher) -> None:
    docker.docker("run", "--name", "one", "busybox", "touch", "/made")

    docker.docker("start", "one")
    docker.docker("wait", "one")

    assert docker.docker("diff", "one") == "A /made"


def test_stop_asks_first_and_as_the_container_wants(docker: Launcher) -> None:
    script = "trap 'exit 3' USR1; while :; do sleep 0.05; done"
    docker.docker("run", "-d", "--name", "one", "--stop-signal", "USR1", "busybox", "sh", "-c", script)

    docker.docker("stop", "one")

    assert state(docker, "one")["ExitCode"] == 3


def test_stopping_a_paused_one_lets_it_end_as_it_wants(docker: Launcher) -> None:
    script = "trap 'exit 7' TERM; while :; do sleep 0.05; done"
    docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", script)
    docker.docker("pause", "one")

    docker.docker("stop", "-t", "50", "one")

    assert state(docker, "one")["ExitCode"] == 7
    events = docker.docker(
        *("events", "--since", "5m", "--until", f"{time.time():.6f}", "--filter", "container=one"),
        *("--format", "{{.Action}}"),
    )
    assert events.split()[-5:] == ["pause", "kill", "unpause", "die", "stop"]


def test_a_signal_thaws_a_paused_one_that_it_may_end(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "any", *_SLEEPER)
    docker.docker("run", "-d", "--name", "int", "--stop-signal", "INT", *_SLEEPER)
    docker.docker(
        "pause",
        "any",
    )
    docker.docker("pause", "int")

    docker.docker("kill", "-s", "USR1", "any", "int")
    assert (status(docker, "any"), status(docker, "int")) == ("running", "paused")
    docker.docker("kill", "-s", "INT", "int")
    assert status(docker, "int") == "running"
    docker.docker("pause", "int")
    docker.docker("kill", "int")
    assert (status(docker, "int"), state(docker, "int")["ExitCode"]) == ("exited", 137)


def _has_said(docker: Launcher, name: str, text: str) -> bool:
    return docker.docker("logs", name) == text


def test_one_that_ends_by_a_signal_of_a_user_stays_so(docker: Launcher) -> None:
    """As Docker has it: by any, unless it names one that stops it."""
    script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.05; done"
    for name, more in (("any", ()), ("named", ("--stop-signal", "TERM"))):
        docker.docker(
            *("run", "-d", "--name", name, "--restart", "always", *more, "busybox", "sh", "-c", script)
        )
        eventually(partial(_has_said, docker, name, "ready"))

    docker.docker("kill", "-s", "USR1", "any", "named")

    eventually(partial(_has_said, docker, "named", "ready\nready"))
    assert docker.docker("wait", "any") == "3"
    assert json.loads(docker.docker("inspect", "any"))[0]["RestartCount"] == 0


def test_restart_and_kill_by_signal(docker: Launcher) -> None:
    script = "trap 'echo heard' HUP; echo up; while :; do sleep 0.05; done"
    docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", script)
    eventually(lambda: docker.docker("logs", "one") == "up")

    docker.docker("kill", "-s", "HUP", "one")
    eventually(lambda: docker.docker("logs", "one") == "up\nheard")
    docker.docker("restart", "-t", "0", "one")
    eventually(lambda: docker.docker("logs", "one") == "up\nheard\nup")

    assert "invalid signal: NOSUCH" in docker.fails("kill", "-s", "NOSUCH", "one")[1]
    docker.docker("kill", "one")
    assert "is not running" in docker.fails("kill", "one")[1]


def test_a_failing_container_is_started_again_so_many_times(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--restart", "on-failure:2", "busybox", "sh", "-c", "exit 4")

    eventually(lambda: state(docker, "one")["Status"] == "exited" and restarts(docker, "one") == 2)
    assert state(docker, "one")["ExitCode"] == 4


def restarts(docker: Launcher, name: str) -> int:
    return int(json.loads(docker.docker("inspect", name))[0]["RestartCount"])


def test_one_that_always_restarts_stops_when_it_is_asked(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--restart", "always", "busybox", "true")
    eventually(lambda: restarts(docker, "one") >= 2)

    docker.docker("stop", "one")

    assert status(docker, "one") == "exited"


def test_health_is_looked_at(docker: Launcher) -> None:
    checked = ("--health-cmd", "test -e /well", "--health-interval", "0.2s", "--health-retries", "1")
    docker.docker("run", "-d", "--name", "one", *checked, *_SLEEPER)

    eventually(lambda: state(docker, "one")["Health"]["Status"] == "unhealthy")
    assert "(unhealthy)" in docker.docker("ps")
    docker.docker("exec", "one", "touch", "/well")
    eventually(lambda: state(docker, "one")["Health"]["Status"] == "healthy")
    assert docker.docker("ps", "-q", "--filter", "health=healthy") != ""
    now = f"{time.time():.9f}"  # the CLI makes whole seconds of a duration
    events = docker.docker("events", "--since", "5m", "--until", now, "--filter", "container=one")
    assert "health_status: unhealthy" in events


def test_limits_hold_and_are_changed(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "-m", "64m", "--cpus", "0.5", "--pids-limit", "30", *_SLEEPER)
    limit = ("exec", "one", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    if docker.run(*limit).returncode != 0:
        pytest.skip("cgroup v2: what is asked of the runtime is compared in test_ocispec_like_docker")
    assert docker.docker(*limit) == str(64 << 20)
    assert docker.docker("exec", "one", "cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us") == "50000"
    assert docker.docker("exec", "one", "cat", "/sys/fs/cgroup/pids/pids.max") == "30"

    docker.docker("update", "-m", "96m", "--memory-swap", "200m", "one")

    assert docker.docker(*limit) == str(96 << 20)
    assert json.loads(docker.docker("inspect", "one"))[0]["HostConfig"]["Memory"] == 96 << 20


def test_stats_and_top(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "-m", "64m", *_SLEEPER)

    row = docker.docker(
        "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}} {{.NetIO}}", "one"
    )

    assert row.split()[0] == "one"
    assert "/ 64MiB" in row
    titles, process = docker.docker("top", "one").splitlines()
    assert titles.split()[:3] == ["UID", "PID", "PPID"]
    assert process.endswith("sleep 1000")


def test_events_are_dockers(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--name", "one", "busybox", "true")
    docker.docker("wait", "one")
    docker.docker("rm", "one")

    def told() -> list[str]:
        """Up to the last whole second, which is all that the CLI asks for."""
        form = '{{.Action}} {{index .Actor.Attributes "exitCode"}}'
        filters = ("--filter", f"container={ident}", "--filter", "type=container")
        shown = docker.docker("events", "--since", "5m", "--until", "0s", *filters, "--format", form)
        return [line.strip() for line in shown.splitlines()]

    eventually(lambda: told() == ["create", "start", "die 0", "destroy"])


def test_names_change_and_stay_unique(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker("create", "--name", "two", "busybox")

    assert "is already in use by container" in docker.fails("rename", "one", "two")[1]
    docker.docker("rename", "one", "three")

    assert docker.docker("exec", "three", "echo", "here") == "here"
    assert "No such container: one" in docker.fails("inspect", "--type", "container", "one")[1]


def test_prune_takes_what_does_not_run(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "runs", *_SLEEPER)
    ended = docker.docker("create", "busybox")

    shown = docker.docker("container", "prune", "-f")

    assert shown.splitlines()[:2] == ["Deleted Containers:", ended]
    assert docker.docker("ps", "-a", "--format", "{{.Names}}") == "runs"


def test_a_container_that_removes_itself(docker: Launcher) -> None:
    docker.docker("run", "-d", "--rm", "--name", "one", *_SLEEPER)

    docker.docker("stop", "-t", "0", "one")

    eventually(lambda: docker.docker("ps", "-aq") == "")


def test_one_that_removes_itself_stays_through_restarts(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--rm", "--name", "one", *_SLEEPER)

    for _ in range(5):
        docker.docker("restart", "-t", "0", "one")
    restarts = [
        subprocess.Popen(docker.command("restart", "-t", "0", "one"), stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]

    assert [each.wait(60) for each in restarts] == [0, 0, 0, 0]
    assert docker.docker("ps", "-q", "--no-trunc") == ident
    docker.docker("stop", "-t", "0", "one")
    eventually(lambda: docker.docker("ps", "-aq") == "")


def test_one_that_removes_itself_is_removed_by_force(docker: Launcher) -> None:
    docker.docker("run", "-d", "--rm", "--name", "one", *_SLEEPER)

    docker.docker("rm", "-f", "one")

    assert docker.docker("ps", "-aq") == ""


def test_images_are_filtered(docker: Launcher) -> None:
    docker.docker("run", "--name", "one", "busybox", "touch", "/made")
    docker.docker("commit", "--change", "LABEL colour=red", "one", "red:1")
    nameless = docker.docker("commit", "one")

    def names(*filters: str) -> list[str]:
        flags = [word for each in filters for word in ("--filter", each)]
        return sorted(docker.docker("images", "--format", "{{.Repository}}", *flags).split())

    try:
        assert names("label=colour=red") == ["red"]
        assert names("dangling=true") == ["<none>"]
        assert names("before=red:1") == ["busybox"]
        assert names("since=busybox", "dangling=false") == ["red"]
        assert names("reference=b*") == ["busybox"]
        assert "No such image: nosuch" in docker.fails("images", "--filter", "since=nosuch")[1]
    finally:
        docker.docker("rm", "one")
        docker.docker("rmi", "red:1", nameless)
