"""Containers outlive launcher, cnmd, conmon and the machine's power; whatever fails, nothing is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnm.kernel.processes import has_ended
from tests.support import launcher as lab
from tests.support.faulty_programs import FaultyPrograms
from tests.support.launcher import Launcher
from tests.support.launcher_left import left, monitors
from tests.support.power_cut import cut_power, ident_of, switched_on
from tests.support.small_containers import eventually
from tests.support.thorough import THOROUGH
from tests.support.unpacked import environment, lacking

_SLEEPER = ("busybox", "sleep", "1000")
_SECOND_LIFE = "[ -e /second ] && exec sleep 1000; touch /second; "
"""Of a script: when it is started again, it stays."""
_WAIT = "while [ ! -e /go/now ]; do sleep 0.05; done; "


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """One whose programs fail when they are told to."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        programs = FaultyPrograms(Path(folder))
        with lab.running(Path(folder), config=programs.config) as launcher:
            yield launcher


@pytest.fixture
def programs(launcher: Launcher) -> Iterator[FaultyPrograms]:
    programs = FaultyPrograms(launcher.place)
    yield programs
    programs.mend()


@pytest.fixture
def docker(launcher: Launcher) -> Iterator[Launcher]:
    """Without containers before; afterwards nothing is left of those that there were."""
    yield launcher
    for daemon in (launcher.cnmd, launcher):
        if daemon.process is None:
            daemon.start()
    launcher.clear()
    assert left(launcher) == []


def inspect(docker: Launcher, name: str) -> Any:
    return json.loads(docker.docker("inspect", name))[0]


def state(docker: Launcher, name: str) -> Any:
    return inspect(docker, name)["State"]


def status(docker: Launcher, name: str) -> str:
    return str(state(docker, name)["Status"])


def names(docker: Launcher, *arguments: str) -> set[str]:
    return set(docker.docker("ps", "--format", "{{.Names}}", *arguments).split())


def monitor(docker: Launcher, name: str) -> int:
    """conmon's pid."""
    ident = inspect(docker, name)["Id"]
    return int((docker.place / "run/launcher/containers" / ident / "conmon.pid").read_text())


def again(docker: Launcher) -> None:
    docker.kill()
    docker.start()


@contextmanager
def away(docker: Launcher) -> Iterator[None]:
    """The launcher is killed, and there again after the block."""
    docker.kill()
    yield
    docker.start()


# The launcher


def test_containers_run_on_while_the_launcher_is_killed_and_back(docker: Launcher) -> None:
    script = "trap 'echo heard' HUP; echo up; while :; do sleep 0.05; done"
    docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", script)
    docker.docker("run", "-d", "--name", "frozen", *_SLEEPER)
    docker.docker("pause", "frozen")
    pid = state(docker, "one")["Pid"]
    eventually(lambda: docker.docker("logs", "one") == "up")

    with away(docker):
        os.kill(pid, signal.SIGHUP)

    assert (status(docker, "one"), state(docker, "one")["Pid"]) == ("running", pid)
    assert status(docker, "frozen") == "paused"
    eventually(lambda: docker.docker("logs", "one") == "up\nheard")
    assert docker.docker("exec", "one", "hostname") == inspect(docker, "one")["Config"]["Hostname"]
    docker.docker("unpause", "frozen")
    docker.docker("stop", "-t", "0", "one")
    assert state(docker, "one")["ExitCode"] == 137


def test_what_ended_while_the_launcher_was_away_is_known_and_follows_its_policy(docker: Launcher) -> None:
    go = docker.place / "go"
    go.mkdir()
    run = ("run", "-d", "-v", f"{go}:/go")
    shell = ("busybox", "sh", "-c")
    docker.docker(*run, "--name", "plain", *shell, f"{_WAIT} echo last words; exit 3")
    docker.docker(*run, "--name", "once", "--rm", *shell, _WAIT)
    docker.docker(*run, "--name", "always", "--restart", "always", *shell, f"{_SECOND_LIFE}{_WAIT}")
    docker.docker(*run, "--name", "stubborn", "--restart", "unless-stopped", *shell, f"{_SECOND_LIFE}{_WAIT}")
    docker.docker(
        *run, "--name", "failing", "--restart", "on-failure:2", *shell, f"{_SECOND_LIFE}{_WAIT} exit 1"
    )
    docker.docker(*run, "--name", "done", "--restart", "on-failure", *shell, f"{_SECOND_LIFE}{_WAIT} exit 0")
    limits = ("-m", "20m", "--memory-swap", "20m")
    docker.docker(*run, "--name", "hungry", *limits, *shell, f"{_WAIT} head -c 200m /dev/zero | tail")

    with away(docker):
        watched = monitors(docker)
        (go / "now").touch()
        assert len(watched) == 7
        assert all(has_ended(pid, 30) for pid in watched)

    assert state(docker, "plain")["ExitCode"] == 3
    assert docker.docker("logs", "plain") == "last words"
    assert "once" not in names(docker, "-a")
    eventually(lambda: names(docker) == {"always", "stubborn", "failing"})
    assert (status(docker, "done"), state(docker, "done")["ExitCode"]) == ("exited", 0)
    assert (state(docker, "hungry")["OOMKilled"], state(docker, "hungry")["ExitCode"]) == (True, 137)


def test_what_was_stopped_stays_so_unless_it_is_to_run_always(docker: Launcher) -> None:
    for name in ("no", "always", "unless-stopped", "on-failure"):
        docker.docker("run", "-d", "--name", name, "--restart", name, *_SLEEPER)
    docker.docker("stop", "-t", "0", "no", "always", "unless-stopped", "on-failure")

    again(docker)

    eventually(lambda: names(docker) == {"always"})


def test_a_creation_does_not_go_on_without_its_launcher(docker: Launcher, programs: FaultyPrograms) -> None:
    docker.docker("create", "--name", "one", *_SLEEPER)
    with programs.held("runc"):
        starting = subprocess.Popen(
            docker.command("start", "one"), env=environment(), stderr=subprocess.DEVNULL
        )
        eventually(lambda: len(monitors(docker)) == 1)
        again(docker)
        assert monitors(docker) == []
        starting.wait(20)

    assert status(docker, "one") == "created"
    assert left(docker) == [f"file {ident_of(docker, 'one')}"]
    docker.docker("start", "one")


def test_one_that_waits_for_its_restart_is_started(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--restart", "always", "busybox", "sh", "-c", "exit 5")
    eventually(lambda: status(docker, "one") == "restarting")

    again(docker)

    eventually(lambda: status(docker, "one") in ("running", "restarting"))
    docker.docker("stop", "one")
    assert (status(docker, "one"), state(docker, "one")["ExitCode"]) == ("exited", 5)


def test_one_that_removes_itself_outlives_its_restart(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--rm", "--name", "one", *_SLEEPER)

    docker.docker("restart", "-t", "0", "one")

    assert (status(docker, "one"), inspect(docker, "one")["Id"]) == ("running", ident)
    docker.docker("stop", "-t", "0", "one")
    eventually(lambda: names(docker, "-a") == set())


@pytest.mark.parametrize("is_asked", [True, False])
def test_one_that_is_dead_is_so_for_the_next_launcher_which_removes_it_once_it_can(
    docker: Launcher, programs: FaultyPrograms, is_asked: bool
) -> None:
    end = docker.stop if is_asked else docker.kill
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    programs.fail("runc", "delete")
    assert "runc is broken" in docker.fails("rm", "-f", "one")[1]
    assert status(docker, "one") == "dead"

    end()
    docker.start()

    assert status(docker, "one") == "dead"
    assert "is marked for removal" in docker.fails("start", "one")[1]
    programs.mend()
    end()
    docker.start()
    assert names(docker, "-a") == set()


# cnmd


def test_names_and_networks_outlive_cnmd(docker: Launcher) -> None:
    docker.cnmd.create_network("front")
    docker.cnmd.create_network("back")
    docker.docker("run", "-d", "--name", "one", "--network", "front", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", "--network", "front", *_SLEEPER)
    ping = ("exec", "one", "ping", "-c1", "-w2", "two")
    eventually(
        lambda: docker.run(*ping).returncode == 0
    )  # a resolver that has just begun hears of names soon

    docker.cnmd.kill()

    assert docker.run(*ping).returncode == 0
    assert names(docker) == {"one", "two"}
    docker.cnmd.start()
    assert docker.run(*ping).returncode == 0
    docker.docker("network", "connect", "back", "one")
    assert set(inspect(docker, "one")["NetworkSettings"]["Networks"]) == {"front", "back"}
    docker.docker("network", "disconnect", "back", "one")
    docker.docker("rm", "-f", "one", "two")
    docker.docker("network", "rm", "front", "back")


def test_without_cnmd_nothing_starts_and_what_goes_is_cleared_when_it_is_back(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker("run", "-d", "--name", "once", "--rm", *_SLEEPER)
    docker.cnmd.kill()

    _, error = docker.fails("run", "-d", "--name", "two", *_SLEEPER)
    assert "cannot connect to cnmd at unix://" in error
    assert "cannot connect to cnmd" in docker.fails("rm", "-f", "one")[1]
    docker.docker("kill", "once")
    docker.cnmd.start()

    eventually(lambda: names(docker, "-a") == {"two"})
    docker.docker("start", "two")


@pytest.mark.parametrize(
    "words",
    [
        ("run", *_SLEEPER),
        ("run", "-d", *_SLEEPER),
        ("run", "--rm", "--network", "none", *_SLEEPER),
        ("run", "--network", "host", *_SLEEPER),
        ("start", "made"),
        ("build", "-q", "-"),
        ("network", "ls"),
        ("network", "connect", "bridge", "made"),
    ],
    ids=" ".join,
)
def test_without_cnmd_what_needs_it_says_in_one_line_what_to_do(
    docker: Launcher, words: tuple[str, ...]
) -> None:
    docker.docker("create", "--name", "made", "--network", "none", *_SLEEPER)
    docker.cnmd.kill()
    try:
        _, error = docker.fails(*words, given="FROM busybox\nRUN true\n" if words[0] == "build" else "")
    finally:
        docker.cnmd.start()

    told = [line for line in error.splitlines() if "cnmd" in line]
    reason = f"cannot connect to cnmd at unix://{docker.cnmd.socket}: is it running?"
    assert all(f"{reason} start it with 'systemctl start cnmd'" in line for line in told), error
    assert len(told) == 1 or "--rm" in words  # whose removal may be waited for, too
    docker.clear()
    eventually(lambda: left(docker) == [])


def test_without_cnmd_a_run_that_would_remove_itself_ends_and_says_why(docker: Launcher) -> None:
    docker.cnmd.kill()
    code, error = docker.fails("run", "--rm", "busybox", "true")
    docker.cnmd.start()

    assert code == 125
    assert "cannot connect to cnmd at unix://" in error
    eventually(lambda: docker.docker("ps", "-aq") == "")


def test_the_launcher_may_start_before_cnmd(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--restart", "always", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", *_SLEEPER)
    docker.cnmd.kill()
    with away(docker):
        for pid in (*monitors(docker), *_first_processes(docker)):
            os.kill(pid, signal.SIGKILL)
            assert has_ended(pid, 20)

    docker.cnmd.start()

    eventually(lambda: names(docker) == {"one"})
    assert (status(docker, "two"), state(docker, "two")["ExitCode"]) == ("exited", 255)


def _first_processes(docker: Launcher) -> list[int]:
    bundles = (docker.place / "run/launcher/containers").iterdir()
    return [int((bundle / "pid").read_text()) for bundle in bundles]


# conmon and what it watches


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_container_outlives_its_monitor(docker: Launcher, is_restarted: bool) -> None:
    for name in ("one", "two", "three"):
        docker.docker("run", "-d", "--name", name, *_SLEEPER)
        pid = monitor(docker, name)
        os.kill(pid, signal.SIGKILL)
        assert has_ended(pid, 20)
    if is_restarted:
        again(docker)

    assert names(docker) == {"one", "two", "three"}
    assert docker.docker("exec", "one", "echo", "here") == "here"
    os.kill(state(docker, "one")["Pid"], signal.SIGKILL)
    assert docker.docker("wait", "one") == "255"
    docker.docker("stop", "-t", "0", "two")
    assert (status(docker, "two"), state(docker, "two")["ExitCode"]) == ("exited", 255)
    docker.docker("rm", "-f", "three")
    assert names(docker, "-a") == {"one", "two"}
    docker.docker("start", "one")
    assert status(docker, "one") == "running"


def test_a_process_killed_from_outside_is_an_end_like_any(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    os.kill(state(docker, "one")["Pid"], signal.SIGKILL)

    assert docker.docker("wait", "one") == "137"
    assert status(docker, "one") == "exited"


def test_processes_of_the_hosts_pid_namespace_go_with_their_container(docker: Launcher) -> None:
    script = "sleep 1000 & sleep 1000"
    docker.docker("run", "-d", "--name", "one", "--pid", "host", "busybox", "sh", "-c", script)

    docker.docker("rm", "-f", "one")

    assert left(docker) == []


@pytest.mark.skipif(not THOROUGH, reason="takes ten seconds; make test-thorough")
def test_a_monitor_that_hangs_does_not_keep_its_container(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    os.kill(monitor(docker, "one"), signal.SIGSTOP)

    docker.docker("rm", "-f", "one")

    assert names(docker, "-a") == set()


# The machine


def test_after_a_power_cut_policies_start_containers_with_their_files(docker: Launcher) -> None:
    docker.cnmd.create_network("front")
    network = ("--network", "front")
    for name in ("no", "always", "unless-stopped"):
        docker.docker("run", "-d", "--name", name, "--restart", name, *network, *_SLEEPER)
        docker.docker("exec", name, "sh", "-c", f"echo {name} > /written; sync")
    docker.docker("run", "-d", "--name", "once", "--rm", *network, *_SLEEPER)
    docker.docker("run", "-d", "--name", "stopped", "--restart", "unless-stopped", *_SLEEPER)
    docker.docker("stop", "-t", "0", "stopped")
    docker.docker("create", "--name", "made", *_SLEEPER)
    cut_power(docker)
    (docker.place / "root/launcher/containers" / ident_of(docker, "made") / "state.json").write_bytes(b"")

    with switched_on(docker):
        eventually(lambda: names(docker) == {"always", "unless-stopped"})
        assert names(docker, "-a") == {"no", "always", "unless-stopped", "stopped", "made"}
        assert (status(docker, "no"), state(docker, "no")["ExitCode"]) == ("exited", 255)
        assert status(docker, "made") == "created"
        assert docker.docker("exec", "always", "cat", "/written") == "always"
        assert docker.run("exec", "always", "ping", "-c1", "-w2", "unless-stopped").returncode == 0
        docker.docker("start", "no", "made")
        docker.clear()
        docker.docker("network", "rm", "front")
        assert left(docker) == []


def test_after_a_power_cut_every_state_is_a_true_one(docker: Launcher, programs: FaultyPrograms) -> None:
    policies = {
        "paused": "no",
        "frozen": "always",
        "dying": "no",
        "failing": "on-failure:9",
        "again": "always",
    }
    for name, policy in policies.items():
        docker.docker("run", "-d", "--name", name, "--restart", policy, *_SLEEPER)
    docker.docker("pause", "paused", "frozen")
    programs.fail("runc", "delete")
    assert "runc is broken" in docker.fails("rm", "-f", "dying")[1]
    programs.fail("runc", "create")
    for name in ("failing", "again"):
        os.kill(state(docker, name)["Pid"], signal.SIGKILL)
    waits = {"dying": "dead", "failing": "restarting", "again": "restarting", "paused": "paused"}
    eventually(lambda: {name: status(docker, name) for name in waits} == waits)
    cut_power(docker)
    programs.mend()

    with switched_on(docker):
        eventually(lambda: names(docker) == {"frozen", "failing", "again"})
        assert names(docker, "-a") == {"paused", "frozen", "failing", "again"}
        assert (status(docker, "paused"), state(docker, "paused")["ExitCode"]) == ("exited", 255)
        assert [status(docker, name) for name in ("frozen", "failing", "again")] == ["running"] * 3
        docker.docker("start", "paused")
        assert docker.docker("exec", "frozen", "echo", "here") == "here"
        docker.clear()
        assert left(docker) == []


# Programs that fail


@pytest.mark.parametrize("verb", ["create", "start"])
def test_a_runtime_that_fails_to_start_leaves_nothing(
    docker: Launcher, programs: FaultyPrograms, verb: str
) -> None:
    programs.fail("runc", verb)

    code, error = docker.fails("run", "-d", "--name", "one", *_SLEEPER)

    assert code == 125
    assert "runc is broken" in error
    assert (status(docker, "one"), state(docker, "one")["ExitCode"]) == ("created", 128)
    assert left(docker) == [f"file {ident_of(docker, 'one')}"]
    programs.mend()
    docker.docker("start", "one")
    assert status(docker, "one") == "running"


@pytest.mark.parametrize(
    ("verb", "command"),
    [
        ("kill", ("stop", "-t", "0", "one")),
        ("kill", ("rm", "-f", "one")),
        ("kill", ("kill", "one")),
        ("pause", ("pause", "one")),
        ("update", ("update", "--pids-limit", "50", "one")),
        ("exec", ("exec", "one", "true")),
    ],
)
def test_a_runtime_that_fails_changes_nothing(
    docker: Launcher, programs: FaultyPrograms, verb: str, command: tuple[str, ...]
) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    programs.fail("runc", verb)

    done = docker.run(*command)

    assert done.returncode != 0
    assert "runc is broken" in done.stderr or "runc ended with 1" in done.stdout
    assert status(docker, "one") == "running"
    assert inspect(docker, "one")["HostConfig"]["PidsLimit"] != 50
    programs.mend()
    docker.docker(*command)


def test_a_runtime_that_fails_to_thaw_leaves_it_frozen(docker: Launcher, programs: FaultyPrograms) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker("pause", "one")
    programs.fail("runc", "resume")

    assert "runc is broken" in docker.fails("unpause", "one")[1]

    assert status(docker, "one") == "paused"
    programs.mend()
    docker.docker("rm", "-f", "one")


def test_a_runtime_that_fails_to_delete_is_asked_again(docker: Launcher, programs: FaultyPrograms) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", *_SLEEPER)
    programs.fail("runc", "delete")

    docker.docker("stop", "-t", "0", "one", "two")
    assert status(docker, "one") == "exited"
    assert "runc is broken" in docker.fails("rm", "one")[1]
    assert status(docker, "one") == "dead"
    assert "is marked for removal" in docker.fails("start", "one")[1]
    programs.mend()

    docker.docker("rm", "one")
    docker.docker("start", "two")


def test_a_monitor_that_fails_leaves_nothing(docker: Launcher, programs: FaultyPrograms) -> None:
    programs.fail("conmon", "")

    assert "conmon is broken" in docker.fails("run", "-d", "--name", "one", *_SLEEPER)[1]

    programs.mend()
    docker.docker("start", "one")


@pytest.mark.parametrize("name", ["runc", "conmon", "podman"])
def test_a_program_that_is_not_there_is_named(docker: Launcher, programs: FaultyPrograms, name: str) -> None:
    command = ("tag", "busybox", "other") if name == "podman" else ("run", "--rm", *_SLEEPER)
    with programs.absent(name):
        assert "is not installed: install it, or say where it is" in docker.fails(*command)[1]
        again(docker)  # what it does not need does not keep it from starting

    assert names(docker, "-a") == set()


# Disks that are full


def test_a_full_disk_keeps_nobody_from_ending_and_going(docker: Launcher) -> None:
    docker.stop()
    containers = docker.place / "root/launcher/containers"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", containers], check=True)
    try:
        docker.start()
        docker.docker("run", "-d", "--name", "one", *_SLEEPER)
        docker.docker("run", "-d", "--name", "two", *_SLEEPER)
        docker.docker("create", "--name", "three", *_SLEEPER)
        fill(containers / "ballast")

        assert "no space left on device" in docker.fails("create", *_SLEEPER)[1]
        assert "no space left on device" in docker.fails("start", "three")[1].lower()
        docker.docker("stop", "-t", "0", "two")
        assert (status(docker, "two"), state(docker, "two")["ExitCode"]) == ("exited", 137)
        again(docker)
        assert (status(docker, "two"), state(docker, "two")["ExitCode"]) == ("exited", 137)
        docker.docker("rm", "-f", "one", "two", "three")
        (containers / "ballast").unlink()
        assert left(docker) == [f"mount {containers}"]  # the test's own
    finally:
        docker.clear()
        docker.stop()
        subprocess.run(["umount", containers], check=True)
        docker.start()


def fill(path: Path) -> None:
    """Until nothing more can be written."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
