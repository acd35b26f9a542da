"""Containers of `--runtime crun`, on this host's cgroups as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnm.launcher.hybrid_cgroups import before_crun
from tests.support.launcher import Launcher
from tests.support.launcher_api import Api
from tests.support.unpacked import lacking


@pytest.fixture
def crun(docker: Launcher) -> Launcher:
    if reason := lacking("crun"):
        pytest.skip(reason)
    return docker


_RUN = ("run", "--runtime", "crun")


def test_output_and_exit_code_are_the_containers(crun: Launcher) -> None:
    done = crun.run(*_RUN, "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_it_lives_like_any_other(crun: Launcher) -> None:
    crun.docker("network", "create", "net")
    crun.docker(
        *_RUN, "-d", "--name", "one", "--network", "net", "-v", "/etc:/there:ro", "busybox", "sleep", "1000"
    )
    crun.docker("run", "-d", "--name", "two", "--network", "net", "busybox", "sleep", "1000")

    assert json.loads(crun.docker("inspect", "one"))[0]["HostConfig"]["Runtime"] == "crun"
    crun.docker("exec", "one", "ping", "-c1", "-w3", "two")
    crun.docker("exec", "two", "ping", "-c1", "-w3", "one")
    assert crun.run("exec", "one", "sh", "-c", "exit 9").returncode == 9
    assert crun.docker("exec", "-t", "one", "tty").startswith("/dev/pts/")
    assert "sleep 1000" in crun.docker("top", "one")
    crun.docker("pause", "one")
    crun.docker("unpause", "one")
    crun.docker("restart", "-t", "0", "one")
    crun.docker("rm", "-f", "one", "two")
    crun.docker("network", "rm", "net")


def test_limits_hold_and_are_changed(crun: Launcher) -> None:
    ident = crun.docker(
        *_RUN, "-d", "--name", "one", "-m", "50m", "--pids-limit", "20", "busybox", "sleep", "1000"
    )
    limit = Path("/sys/fs/cgroup/memory") / crun.cgroup / ident / "memory.limit_in_bytes"
    assert limit.read_text().strip() == str(50 << 20)

    crun.docker("update", "-m", "60m", "--memory-swap", "120m", "one")

    assert limit.read_text().strip() == str(60 << 20)


def test_nothing_is_left_of_it(crun: Launcher) -> None:
    ident = crun.docker(*_RUN, "-d", "--name", "one", "busybox", "sleep", "1000")

    crun.docker("rm", "-f", "one")

    assert not list((crun.place / "run/launcher/crun").iterdir())
    assert not (Path("/sys/fs/cgroup/memory") / crun.cgroup / ident).exists()
    assert Path("/sys/fs/cgroup/unified/cgroup.controllers").exists() or not before_crun()


def test_a_command_that_cannot_run_is_told(crun: Launcher) -> None:
    """The docker CLI knows runc's words alone, and says 125."""
    error = crun.fails(*_RUN, "--name", "one", "busybox", "nosuch")[1]

    assert "OCI runtime create failed: executable file `nosuch` not found in $PATH" in error
    assert json.loads(crun.docker("inspect", "one"))[0]["State"]["ExitCode"] == 127


def test_it_is_taken_up_by_the_next_launcher(crun: Launcher) -> None:
    crun.docker(
        *_RUN, "-d", "--name", "one", "busybox", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"
    )

    crun.kill()
    crun.start()

    crun.docker("exec", "one", "true")
    crun.docker("stop", "one")
    assert crun.docker("wait", "one") == "5"


def test_it_may_have_users_of_its_own(crun: Launcher) -> None:
    crun.place.chmod(0o711)
    api = Api(crun.socket)
    host = {"UsernsMode": "private:200000:65536", "Runtime": "crun"}
    api.run("one", {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host})

    shown = crun.docker("exec", "one", "sh", "-c", "ls /sys/class/net; echo x > /new; stat -c %u /new")

    assert shown.split() == ["eth0", "lo", "0"]


def test_nothing_stands_before_it_where_one_kind_of_cgroups_is_there(tmp_path: Path) -> None:
    assert before_crun(tmp_path) == ()
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("\n")
    assert before_crun(tmp_path) == ()

    (tmp_path / "unified/cgroup.controllers").write_text("hugetlb\n")
    assert str(tmp_path / "unified") in before_crun(tmp_path)
