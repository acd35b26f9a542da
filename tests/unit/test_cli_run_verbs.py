"""What is done to containers that are there: same requests, output and exit code as the docker CLI's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_daemon import FakeDaemon, Request, fake_daemon

CHECKOUT = Path(__file__).parents[2]
CURRENT = 28
ID = "1" * 64
VERSION = "/v1.48"

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
OUTPUT = b"\1\0\0\0\0\0\0\5hello\2\0\0\0\0\0\0\3err"


def _docker() -> str | None:
    path = shutil.which("docker")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return path if re.search(rf"version {CURRENT}\.", said) else None


DOCKER = _docker()
pytestmark = pytest.mark.skipif(DOCKER is None, reason=f"needs the docker command, of version {CURRENT}")


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        head = b"HTTP/1.1 200 OK\r\nApi-Version: 1.48\r\nOstype: linux\r\nConnection: close\r\n\r\n"
        daemon.sends("HEAD", "/_ping", head)
        for prefix in ("", VERSION):
            daemon.answers("GET", f"{prefix}/info", {"OSType": "linux"})
            daemon.answers("POST", f"{prefix}/containers/create", {"Id": ID, "Warnings": ["beware"]}, 201)
            daemon.sends("POST", f"{prefix}/exec/e1/start", UPGRADED + OUTPUT)
            daemon.answers("GET", f"{prefix}/exec/e1/json", {"ExitCode": 4, "Running": False})
            daemon.refuses("DELETE", f"{prefix}/containers/nope", 404, "No such container: nope")
            for name in ("web", "b", ID):
                answers_for(daemon, f"{prefix}/containers/{name}")
        yield daemon


def answers_for(daemon: FakeDaemon, container: str) -> None:
    for verb in ("start", "stop", "restart", "kill", "pause", "unpause", "rename"):
        daemon.answers("POST", f"{container}/{verb}", status=204)
    daemon.answers("POST", f"{container}/wait", {"StatusCode": 5})
    daemon.answers("POST", f"{container}/update", {"Warnings": None})
    daemon.answers("DELETE", container, status=204)
    daemon.answers("GET", f"{container}/json", INSPECTED)
    daemon.answers("POST", f"{container}/exec", {"Id": "e1"}, 201)
    daemon.sends("POST", f"{container}/attach", UPGRADED + OUTPUT)


INSPECTED = {
    "Id": ID,
    "State": {"Running": True, "Paused": False, "Restarting": False},
    "Config": {"Tty": False, "OpenStdin": True},
    "HostConfig": {"AutoRemove": False},
    "NetworkSettings": {
        "Ports": {
            "100/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}],
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
            "9/udp": None,
            "53/udp": [{"HostIp": "", "HostPort": "5"}],
        }
    },
}


class Answer:
    """What a client said and asked."""

    def __init__(self, done: subprocess.CompletedProcess[str], requests: list[Request]) -> None:
        self.said = (done.returncode, done.stdout, done.stderr)
        self.asked = [asked(request) for request in requests if changes(request)]


def changes(request: Request) -> bool:
    """A wait is no change either: for a container in the background nobody has to ask for it."""
    return request.method in ("POST", "DELETE") and not request.path.endswith(("/create", "/wait"))


def asked(request: Request) -> tuple[Any, ...]:
    """Less the version, less who it is about (Docker's calls it by its name or its id), less empty values."""
    path = request.path.removeprefix(VERSION).replace(ID, "web")
    body = {key: value for key, value in (request.body or {}).items() if value and key not in UNHEARD}
    return request.method, path, sorted(request.query.items()), body


UNHEARD = {"ConsoleSize", "Detach", "RestartPolicy"}
"""Of bodies: what says nothing here, since there is no terminal; the policy has a test of its own."""


def by_docker(daemon: FakeDaemon, line: str) -> Answer:
    assert DOCKER
    environment = {**os.environ, "DOCKER_HOST": f"unix://{daemon.socket}", "HOME": "/nonexistent"}
    return answer(daemon, [DOCKER, *shlex.split(line)], environment)


def by_cnmctl(daemon: FakeDaemon, line: str) -> Answer:
    command = [sys.executable, "-m", "cnm.cli", "-H", daemon.socket, *shlex.split(line)]
    return answer(daemon, command, dict(os.environ))


def answer(daemon: FakeDaemon, command: list[str], environment: dict[str, str]) -> Answer:
    daemon.requests.clear()
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done, daemon.requests.copy())


@pytest.mark.parametrize(
    "line",
    [
        "start web b",
        "start -a web",
        "start -ai --detach-keys ctrl-a web",
        "stop web",
        "stop -t 5 web",
        "stop --timeout 0 web",
        "stop -t -1 -s INT web",
        "restart -t 5 web b",
        "restart -s INT web",
        "kill web",
        "kill -s TERM web",
        "pause web",
        "unpause web",
        "wait web b",
        "rm web",
        "rm -f -v web",
        "rm -l web",
        "rm nope",
        "rm -f nope",
        "rename web c",
        "update -m 5m --cpus 1.5 --pids-limit -1 web b",
        "exec web a b",
        "exec -i web a -x --help",
        "exec web -- a",
        "exec -e A=1 -w /x -u u --privileged web a",
        "exec --detach-keys a web b",
        "attach web",
        "attach --no-stdin web",
        "attach --sig-proxy=false --detach-keys a web",
        "run x",
        "run -d x",
        "run -i x",
        "run --rm x",
        "run -a stdout -a stderr x",
        "run -a stdin x",
        "run -d -it x",
        "port web",
        "port web 80",
        "port web 80/tcp",
        "port web 53/udp",
    ],
)
def test_requests_output_and_exit_code_are_dockers(daemon: FakeDaemon, line: str) -> None:
    ours, theirs = by_cnmctl(daemon, line), by_docker(daemon, line)

    assert ours.said == theirs.said
    assert ours.asked == theirs.asked


@pytest.mark.parametrize(
    "line",
    [
        *("run -it x", "exec -it web a", "start -a web b", "rm ''", "rename web ''", "update web"),
        "port web 9/udp",
    ],
)
def test_refusals_of_the_client_are_dockers(daemon: FakeDaemon, line: str) -> None:
    ours, theirs = by_cnmctl(daemon, line), by_docker(daemon, line)

    assert ours.said[0] == theirs.said[0] == 1
    assert theirs.said[2].strip().removeprefix("Error: ").lower() in ours.said[2].lower()
    assert ours.asked == theirs.asked == []


def test_wait_asks_for_what_its_run_needs(daemon: FakeDaemon) -> None:
    conditions = []
    for line in ("run x", "run --rm x", "start -a web"):
        by_cnmctl(daemon, line)
        conditions += [request.query for request in daemon.requests if request.path.endswith("/wait")]

    assert conditions == [{"condition": "next-exit"}, {"condition": "removed"}, {"condition": "next-exit"}]


def test_run_attaches_and_waits_before_it_starts(daemon: FakeDaemon) -> None:
    by_cnmctl(daemon, "run x")

    asked = [request.path.rpartition("/")[2] for request in daemon.requests]
    assert asked == ["create", "attach", "wait", "start"]


def test_update_changes_the_policy_only_where_that_is_asked(daemon: FakeDaemon) -> None:
    by_cnmctl(daemon, "update -m 5m web")
    by_cnmctl_last = daemon.requests[-1].body
    by_cnmctl(daemon, "update --restart on-failure:3 web")

    assert by_cnmctl_last == {"Memory": 5 << 20}
    assert daemon.requests[-1].body == {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}


def test_signals_that_come_while_the_output_is_closed_are_passed_on(daemon: FakeDaemon) -> None:
    """A process may close what it writes and live on; its attachment is over then, the wait is not."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"
    daemon.holds(f"/containers/{ID}/wait", head, "POST")
    command = [sys.executable, "-m", "cnm.cli", "-H", daemon.socket, "run", "x"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(5)
        process.terminate()
        daemon.wait_for("POST", f"/containers/{ID}/kill")
        process.kill()

    assert daemon.requests[-1].query == {"signal": "15"}
