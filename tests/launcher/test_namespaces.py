"""--ipc, --pid, --uts and --cgroupns: whose namespaces a container is in, and what happens when these end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.launcher import Launcher
from tests.support.launcher_api import Api

_SLEEPER = ("busybox", "sleep", "1000")
_SHAREABLE = ("--ipc", "shareable", *_SLEEPER)


def namespace(docker: Launcher, name: str, kind: str) -> str:
    """Which one its processes are in, as "kind:[inode]"."""
    return docker.docker("exec", name, "readlink", f"/proc/self/ns/{kind}")


def hosts(docker: Launcher, kind: str) -> str:
    assert docker.process is not None
    return os.readlink(f"/proc/{docker.process.pid}/ns/{kind}")


# IPC


def test_shared_memory_is_shared_with_a_shareable_container(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--shm-size", "10m", *_SHAREABLE)
    docker.docker("run", "-d", "--name", "two", "--ipc", "container:one", *_SLEEPER)

    docker.docker("exec", "one", "sh", "-c", "echo said > /dev/shm/word")

    assert docker.docker("exec", "two", "cat", "/dev/shm/word") == "said"
    assert namespace(docker, "two", "ipc") == namespace(docker, "one", "ipc") != hosts(docker, "ipc")
    assert "10.0M" in docker.docker("exec", "two", "df", "-h", "/dev/shm")


def test_semaphores_and_the_like_are_private_by_default(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", *_SLEEPER)

    assert len({namespace(docker, "one", "ipc"), namespace(docker, "two", "ipc"), hosts(docker, "ipc")}) == 3
    assert json.loads(docker.docker("inspect", "one"))[0]["HostConfig"]["IpcMode"] == "private"


def test_a_private_container_does_not_let_others_share(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    code, error = docker.fails("run", "--rm", "--ipc", "container:one", "busybox", "true")

    assert code == 125
    assert "non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in error


def test_the_hosts_ipc_has_the_hosts_shared_memory(docker: Launcher) -> None:
    assert docker.process is not None
    there = Path(f"/proc/{docker.process.pid}/root/dev/shm/cnm-test-{os.getpid()}")
    there.write_text("of the host")
    try:
        docker.docker("run", "-d", "--name", "one", "--ipc", "host", *_SLEEPER)

        assert docker.docker("exec", "one", "cat", f"/dev/shm/{there.name}") == "of the host"
        assert namespace(docker, "one", "ipc") == hosts(docker, "ipc")
    finally:
        there.unlink()


def test_without_ipc_there_is_no_shared_memory(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--ipc", "none", *_SLEEPER)

    assert docker.run("exec", "one", "sh", "-c", "grep ' /dev/shm ' /proc/mounts").returncode == 1
    assert namespace(docker, "one", "ipc") != hosts(docker, "ipc")


def test_shared_memory_lasts_for_those_that_share_it_and_is_new_after_a_restart(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SHAREABLE)
    docker.docker("run", "-d", "--name", "two", "--ipc", "container:one", *_SLEEPER)
    docker.docker("exec", "one", "sh", "-c", "echo said > /dev/shm/word")

    docker.docker("restart", "-t", "0", "one")

    assert docker.docker("exec", "two", "cat", "/dev/shm/word") == "said"
    assert docker.run("exec", "one", "cat", "/dev/shm/word").returncode == 1
    docker.docker("restart", "-t", "0", "two")  # joins the new one
    assert namespace(docker, "two", "ipc") == namespace(docker, "one", "ipc")


def test_nothing_is_left_of_shared_memory(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--name", "one", *_SHAREABLE)
    place = docker.place / "root/launcher/containers" / ident
    assert (place / "shm").is_dir()

    docker.docker("stop", "-t", "0", "one")

    assert not (place / "shm").exists()


def test_shared_memory_is_there_still_when_the_launcher_was_killed(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SHAREABLE)
    docker.docker("exec", "one", "sh", "-c", "echo said > /dev/shm/word")

    docker.kill()
    docker.start()

    assert docker.docker("run", "--rm", "--ipc", "container:one", "busybox", "cat", "/dev/shm/word") == "said"


# PID


def test_processes_of_another_container_are_seen_and_signalled(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    docker.docker("exec", "-d", "one", "sleep", "2000")
    kill = ("busybox", "sh", "-c", "kill $(ps | grep 'sleep 200[0]' | awk '{print $1}')")

    assert "sleep 1000" in docker.docker("run", "--rm", "--pid", "container:one", "busybox", "ps")
    docker.docker("run", "--rm", "--pid", "container:one", *kill)

    assert "sleep 2000" not in docker.docker("exec", "one", "ps")


def test_the_hosts_processes_are_seen(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--pid", "host", *_SLEEPER)
    pid = json.loads(docker.docker("inspect", "one"))[0]["State"]["Pid"]

    assert namespace(docker, "one", "pid") == hosts(docker, "pid")
    assert docker.docker("exec", "one", "cat", f"/proc/{pid}/comm") == "sleep"


def test_one_that_shares_processes_ends_with_the_others_first(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker("run", "-d", "--name", "two", "--pid", "container:one", *_SLEEPER)

    docker.docker("kill", "one")

    assert docker.docker("wait", "two") == "137"
    assert "is not running" in docker.fails("start", "two")[1]
    docker.docker("start", "one")
    docker.docker("start", "two")
    assert namespace(docker, "two", "pid") == namespace(docker, "one", "pid")


# Network


@pytest.mark.parametrize("users", ["host", "own"])
def test_a_network_that_is_joined_is_left_behind_by_a_restart_until_its_guest_restarts(
    docker: Launcher, users: str
) -> None:
    docker.place.chmod(0o711)
    api = Api(docker.socket)
    mode = "private" if users == "own" else "host"
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    api.run("one", body | {"HostConfig": {"UsernsMode": mode}})
    api.run("two", body | {"HostConfig": {"UsernsMode": mode, "NetworkMode": "container:one"}})
    first = namespace(docker, "one", "net")
    assert namespace(docker, "two", "net") == first

    docker.docker("restart", "-t", "0", "one")

    assert namespace(docker, "two", "net") == first != namespace(docker, "one", "net")
    docker.docker("restart", "-t", "0", "two")
    assert namespace(docker, "two", "net") == namespace(docker, "one", "net")
    assert docker.docker("exec", "two", "ls", "/sys/class/net").split() == ["eth0", "lo"]


# What cannot be joined


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--network", "cannot join network of a non running container: {id}"),
        ("--pid", "container {id} is not running"),
        ("--ipc", "can't join IPC of container {id}: container {id} is not running"),
    ],
)
def test_one_that_does_not_run_is_not_joined(docker: Launcher, option: str, words: str) -> None:
    ident = docker.docker("create", "--name", "one", *_SHAREABLE)

    code, error = docker.fails("run", option, "container:one", "--name", "two", "busybox", "true")

    assert code == 125
    assert words.format(id=ident) in error
    assert json.loads(docker.docker("inspect", "two"))[0]["State"]["Status"] == "created"
    docker.docker("start", "one")
    assert docker.docker("start", "-a", "two") == ""


@pytest.mark.parametrize("option", ["--pid", "--ipc", "--network"])
def test_one_that_there_is_not_is_not_joined(docker: Launcher, option: str) -> None:
    code, error = docker.fails("run", option, "container:nosuch", "busybox", "true")

    assert code == 125
    assert "No such container: nosuch" in error


def test_one_that_is_joined_may_be_renamed(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    docker.docker(
        "create", "--name", "two", "--pid", "container:one", "--network", "container:one", *_SLEEPER
    )

    docker.docker("rename", "one", "eins")

    docker.docker("start", "two")
    assert namespace(docker, "two", "pid") == namespace(docker, "eins", "pid")


# UTS and cgroup


def test_the_hosts_name_is_seen_with_its_uts(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--uts", "host", *_SLEEPER)

    assert namespace(docker, "one", "uts") == hosts(docker, "uts")
    assert docker.docker("exec", "one", "hostname") == os.uname().nodename
    assert (
        "conflicting options: hostname and the UTS mode"
        in docker.fails("create", "--uts", "host", "--hostname", "x", "busybox")[1]
    )


def test_names_of_cgroups_begin_at_its_own_where_it_has_a_namespace(docker: Launcher) -> None:
    show = ("busybox", "sh", "-c", "grep :memory: /proc/self/cgroup")

    private = docker.docker("run", "--rm", "--cgroupns", "private", *show)
    shared = docker.docker("run", "--rm", "--cgroupns", "host", *show)

    assert private.endswith(":memory:/")
    assert f"/{docker.cgroup}/" in shared


@pytest.mark.parametrize(
    ("option", "mode", "words"),
    [
        ("--ipc", "nosuch", "invalid IPC mode: nosuch"),
        ("--pid", "nosuch", "--pid: invalid PID mode"),
        ("--uts", "container:one", "--uts: invalid UTS mode"),
        ("--cgroupns", "nosuch", "--cgroupns: invalid CGROUP mode"),
        ("--userns", "private", "--userns: invalid USER mode"),
    ],
)
def test_modes_that_there_are_not_are_refused(docker: Launcher, option: str, mode: str, words: str) -> None:
    assert words in docker.fails("create", option, mode, "busybox")[1]
