"""The launcher, cnmd or both end, asked to or not, and come back: what containers do, offer and say goes on."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.kernel.processes import has_ended
from tests.support import launcher as lab
from tests.support.launcher import Launcher
from tests.support.launcher_left import left, monitors
from tests.support.small_containers import eventually
from tests.support.unpacked import lacking

_COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
_END = "while [ ! -e /go/now ]; do sleep 0.05; done; echo last words; exit 7"
_NETWORK = ("--network", "front")

Steps = list[Callable[[Launcher], Any]]


def _stop_launcher(docker: Launcher) -> None:
    assert docker.stop() == 0


def _stop_cnmd(docker: Launcher) -> None:
    assert docker.cnmd.stop() == 0


ENDS: dict[str, Steps] = {
    "launcher stopped": [_stop_launcher],
    "launcher killed": [Launcher.kill],
    "cnmd stopped": [_stop_cnmd],
    "cnmd killed": [lambda docker: docker.cnmd.kill()],
    "both stopped": [_stop_launcher, _stop_cnmd],
    "cnmd stopped, launcher killed": [_stop_cnmd, Launcher.kill],
}


@pytest.fixture(scope="module")
def with_containers() -> Iterator[Launcher]:
    """`web` has a port, `count` counts, `one` looks for names, `outside` is on the host's network."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder)) as docker,
    ):
        docker.cnmd.create_network("front")
        run = ("run", "-d", *_NETWORK)
        web = ("httpd", "-f", "-p", "80", "-h", "/data")
        docker.docker(*run, "--name", "web", "-p", "8080:80", "--network-alias", "site", "busybox", *web)
        docker.docker(*run, "--name", "count", "busybox", "sh", "-c", _COUNT)
        docker.docker(*run, "--name", "one", "busybox", "sleep", "1000")
        docker.docker("run", "-d", "--name", "outside", "--network", "host", "busybox", "sleep", "1000")
        eventually(lambda: _shows(docker, _pid(docker, "one"), "web"))
        yield docker
        docker.clear()
        assert left(docker) == []


@pytest.mark.parametrize("name", ENDS)
def test_containers_names_ports_and_logs_go_on(with_containers: Launcher, name: str) -> None:
    docker = with_containers
    names = ("web", "count", "one", "outside")
    pids = {each: _pid(docker, each) for each in names}
    monitors_before = set(monitors(docker))

    for end in ENDS[name]:
        end(docker)

    assert _shows(docker, pids["one"], "site")
    assert _shows(docker, pids["outside"], "127.0.0.1", "8080")
    for daemon in (docker.cnmd, docker):
        if daemon.process is None:
            daemon.start()
    assert {each: _pid(docker, each) for each in names} == pids
    assert set(monitors(docker)) == monitors_before
    assert _shows(docker, pids["one"], "web")
    assert _shows(docker, pids["outside"], "127.0.0.1", "8080")
    assert docker.docker("exec", "one", *_get("web")).endswith("of the image")
    assert docker.docker("port", "web", "80/tcp").splitlines()[0] == "0.0.0.0:8080"
    before = len(_counted(docker))
    eventually(lambda: len(_counted(docker)) > before)
    counted = _counted(docker)
    assert counted == list(range(1, len(counted) + 1))
    assert docker.docker("run", "--rm", *_NETWORK, "busybox", *_get("site")).endswith("of the image")


def test_the_launcher_describes_itself_while_cnmd_is_away(with_containers: Launcher) -> None:
    docker = with_containers
    _stop_cnmd(docker)
    try:
        told = docker.run("info")
        assert told.returncode == 0, told.stderr
        assert " Containers: 4\n  Running: 4\n" in told.stdout
        assert "WARNING: cannot connect to cnmd at unix://" in told.stdout + told.stderr
    finally:
        docker.cnmd.start()


@pytest.mark.parametrize("name", ENDS)
def test_exit_codes_of_meanwhile_are_known(with_containers: Launcher, name: str) -> None:
    docker = with_containers
    go = docker.place / "go"
    go.mkdir()
    docker.docker("run", "-d", *_NETWORK, "-v", f"{go}:/go", "--name", "ends", "busybox", "sh", "-c", _END)
    ident, pid = docker.docker("inspect", "-f", "{{.Id}}", "ends"), _pid(docker, "ends")
    watched = int((docker.run_dir / "launcher/containers" / ident / "conmon.pid").read_text())

    for end in ENDS[name]:
        end(docker)
    (go / "now").touch()
    assert has_ended(pid, 20)
    assert has_ended(watched, 20)
    for daemon in (docker.cnmd, docker):
        if daemon.process is None:
            daemon.start()

    assert docker.docker("wait", "ends") == "7"
    assert docker.docker("logs", "ends") == "last words"
    eventually(lambda: _sandboxes(docker) == {"web", "count", "one", "outside"})
    docker.docker("rm", "ends")
    (go / "now").unlink()
    go.rmdir()


def _pid(docker: Launcher, name: str) -> int:
    state = json.loads(docker.docker("inspect", name))[0]["State"]
    assert state["Running"]
    return int(state["Pid"])


def _shows(docker: Launcher, pid: int, *place: str) -> bool:
    """Whether the page is there at a host and port for a process of a container, whoever of the daemons is away."""
    command = ["nsenter", f"--target={pid}", "--mount", "--net", "--uts", "--ipc", "--pid"]
    done = subprocess.run([*command, *_get(*place)], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.endswith("of the image\n")


def _get(host: str, port: str = "80") -> tuple[str, ...]:
    return ("/bin/sh", "-c", f"printf 'GET /file HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port}")


def _counted(docker: Launcher) -> list[int]:
    return [int(line) for line in docker.docker("logs", "count").splitlines()]


def _sandboxes(docker: Launcher) -> set[str]:
    return {each["Name"] for each in docker.cnmd.ask("GET", "/cnm/v1/sandboxes")}
