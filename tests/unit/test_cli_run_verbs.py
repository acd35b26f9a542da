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


def test_daemon_that_dies_during_a_run_is_one_line_and_125(daemon: FakeDaemon) -> None:
    daemon.sends("POST", f"/containers/{ID}/wait", b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n")

    ours = by_cnmctl(daemon, "run x")

    assert ours.said[:2] == (125, "hello")
    assert ours.said[2].endswith("the answer ends early: see the log of cnm-launcher\n")


def test_stream_that_is_none_is_one_line_and_125(daemon: FakeDaemon) -> None:
    daemon.sends("POST", f"/containers/{ID}/attach", UPGRADED + b"what is this?")

    ours = by_cnmctl(daemon, "run x")

    assert ours.said[0] == 125
    assert ours.said[2].endswith("cnmctl: unrecognized stream: 119: the daemon sent no multiplexed stream\n")


def test_failure_that_wait_reports_is_125(daemon: FakeDaemon) -> None:
    daemon.answers(
        "POST", f"/containers/{ID}/wait", {"StatusCode": 0, "Error": {"Message": "cannot unmount"}}
    )

    ours = by_cnmctl(daemon, "run x")

    assert ours.said[0] == 125
    assert ours.said[2].endswith("cnmctl: error waiting for container: cannot unmount\n")


def test_failed_start_of_one_that_removes_itself_waits_for_that(daemon: FakeDaemon) -> None:
    daemon.refuses("POST", f"/containers/{ID}/start", 500, "disk is full")

    ours = by_cnmctl(daemon, "run --rm x")

    assert ours.said == (125, "", "WARNING: beware\nError response from daemon: disk is full\n")


PULL = "/images/create"


def test_missing_image_is_pulled_and_the_container_made_then(daemon: FakeDaemon) -> None:
    daemon.refuses("POST", "/containers/create", 404, "No such image: x:latest")
    daemon.streams(
        PULL,
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Downloading", "id": "1", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Status: Downloaded newer image for x:latest"},
        method="POST",
    )

    ours = by_cnmctl(daemon, "run x")

    assert ours.said[0] == 125  # it is still missing
    assert ours.said[2].splitlines() == [
        "Unable to find image 'x:latest' locally",
        "latest: Pulling from library/x",
        "Status: Downloaded newer image for x:latest",
        "Error response from daemon: No such image: x:latest",
        "See 'cnmctl run --help'.",
    ]
    assert [request.path for request in daemon.requests] == ["/containers/create", PULL, "/containers/create"]
    assert daemon.requests[1].query == {"fromImage": "x", "tag": "latest"}


@pytest.mark.parametrize(
    ("image", "query"),
    [
        ("a/b:1", {"fromImage": "a/b", "tag": "1"}),
        ("host:5000/b", {"fromImage": "host:5000/b", "tag": "latest"}),
        ("docker.io/library/b", {"fromImage": "b", "tag": "latest"}),
        ("b@sha256:12", {"fromImage": "b", "tag": "sha256:12"}),
    ],
)
def test_pull_names_the_image_and_its_tag(daemon: FakeDaemon, image: str, query: dict[str, str]) -> None:
    daemon.streams(PULL, {"error": "not today"}, method="POST")

    ours = by_cnmctl(daemon, f"create --pull always {image}")

    assert daemon.requests[0].query == query
    assert ours.said == (1, "", "cnmctl: not today\n")


@pytest.mark.parametrize("line", ["run -d x", "rm web", "start web", "stop web"])
def test_command_in_the_background_loads_only_what_it_needs(daemon: FakeDaemon, line: str) -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from cnm.cli.main import main\n"
        f"code = main({['-H', daemon.socket, *line.split()]!r})\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(done.stderr.split())
    heavy = {
        *("argparse", "http", "socket", "ssl", "logging", "typing", "dataclasses", "datetime", "urllib"),
        *(
            "ipaddress",
            "ctypes",
            "subprocess",
            "tempfile",
            "csv",
            "fractions",
            "threading",
            "signal",
            "select",
        ),
        *("cnm.cli.attached", "cnm.cli.streams", "cnm.cli.terminal", "cnm.cli.usage", "cnm.wire"),
    }
    assert loaded & heavy == set()
