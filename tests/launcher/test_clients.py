"""Clients of all ages: docker CLIs, API versions, what HTTP allows; and clients that are many, slow, or gone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.cnmd import UnixConnection
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.multiplexed import read_until
from tests.support.small_containers import eventually
from tests.support.unpacked import environment, program

_INSTALLED = Path("/usr/local/bin/docker")
_CLIS = {"unpacked": lambda: program("docker"), "installed": lambda: _INSTALLED}


# The docker CLI


class Cli(NamedTuple):
    path: str
    socket: str
    version: str

    def __call__(self, *arguments: str, given: str = "") -> str:
        """What it prints. Raises RuntimeError where it fails."""
        env = {**environment(), **({"DOCKER_API_VERSION": self.version} if self.version else {})}
        done = subprocess.run(
            [self.path, "-H", f"unix://{self.socket}", *arguments],
            env=env,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.returncode}: {done.stderr}")
        return done.stdout.strip()


@pytest.fixture(
    params=[("unpacked", ""), ("unpacked", "1.24"), ("installed", ""), ("installed", "1.24")],
    ids=lambda given: " ".join(filter(None, given)),
)
def cli(request: pytest.FixtureRequest, docker: Launcher) -> Cli:
    """Debian's 20.10, and a newer one where there is one; as they negotiate, and made to speak the oldest version."""
    name, version = request.param
    if name == "installed" and not _INSTALLED.exists():
        pytest.skip(f"no docker CLI at {_INSTALLED}")
    return Cli(str(_CLIS[name]()), docker.socket, version)


def test_every_command_of_a_cli_does_what_it_is_for(cli: Cli, tmp_path: Path) -> None:
    ident = cli(
        "run",
        "-d",
        "--name",
        "one",
        "-p",
        "8080:80",
        "--label",
        "x=y",
        "busybox",
        "sh",
        "-c",
        "echo a; sleep 1000",
    )
    assert len(ident) == 64
    assert cli("run", "--rm", "-i", "busybox", "cat", given="typed") == "typed"
    assert cli("ps", "-q", "--no-trunc", "--filter", "label=x=y") == ident
    assert cli("inspect", "-f", "{{.State.Status}}", "one") == "running"
    assert cli("logs", "one") == "a"
    assert cli("exec", "-i", "one", "cat", given="in") == "in"
    assert "8080" in cli("port", "one")
    assert "sleep 1000" in cli("top", "one")
    assert "one" in cli("stats", "--no-stream", "--format", "{{.Name}}", "one")
    (tmp_path / "file").write_text("here\n")
    cli("cp", str(tmp_path / "file"), "one:/tmp/file")
    cli("cp", "one:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "here\n"
    assert "A /tmp/file" in cli("diff", "one")
    cli("pause", "one")
    cli("unpause", "one")
    cli("rename", "one", "two")
    cli("update", "-m", "64m", "--memory-swap", "64m", "two")
    cli("network", "create", "net")
    cli("network", "connect", "--alias", "al", "net", "two")
    cli("network", "disconnect", "net", "two")
    cli("network", "rm", "net")
    assert cli("commit", "two", "made").startswith("sha256:")
    assert "made" in cli("images", "--format", "{{.Repository}}").split()
    cli("rmi", "made")
    cli("export", "-o", str(tmp_path / "root.tar"), "two")
    cli("restart", "-t", "0", "two")
    cli("kill", "two")
    assert cli("wait", "two") == "137"
    cli("start", "two")
    cli("stop", "-t", "0", "two")
    cli("rm", "two")
    cli("create", "--name", "three", "busybox", "echo", "attached")
    assert cli("start", "-a", "three") == "attached"
    assert "one create" in cli(
        *("events", "--since", "1m", "--until", "0s", "--format", "{{.Actor.Attributes.name}} {{.Action}}")
    )
    assert "Server" in cli("version")
    assert "Containers:" in cli("info")
    if cli.version != "1.24":
        assert "Total reclaimed space" in cli("container", "prune", "-f")
        assert "Local Volumes" in cli("system", "df")


# API versions


def test_versions_from_1_24_to_1_52_are_served(docker: Launcher) -> None:
    ident = docker.docker("create", "--name", "one", "busybox")
    for minor in range(24, 53):
        answers = [
            ask(docker.socket, "GET", f"/v1.{minor}{path}")
            for path in ("/containers/one/json", "/version", "/info")
        ]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert answers[0].body["Id"] == ident
    assert ask(docker.socket, "GET", "/v1.23/info").status == 400
    assert ask(docker.socket, "GET", "/v1.53/info").status == 400


def test_ping_tells_what_clients_negotiate_by(docker: Launcher) -> None:
    got, headed = ask(docker.socket, "GET", "/_ping"), ask(docker.socket, "HEAD", "/_ping")

    assert (got.status, got.body, headed.status, headed.body) == (200, "OK", 200, None)
    for answer in (got, headed):
        assert answer.headers["Api-Version"] == "1.52"
        assert answer.headers["Ostype"] == "linux"
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


_RAW, _MULTIPLEXED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"


@pytest.mark.parametrize(
    ("version", "tty", "kind"),
    [("1.41", False, _RAW), ("1.42", False, _MULTIPLEXED), ("1.41", True, _RAW), ("1.42", True, _RAW)],
)
def test_streams_say_their_kind_since_1_42(docker: Launcher, version: str, tty: bool, kind: str) -> None:
    docker.docker("run", "-d", "--name", "one", *(["-t"] if tty else []), "busybox", "echo", "hi")
    docker.docker("wait", "one")

    logs = ask(docker.socket, "GET", f"/v{version}/containers/one/logs?stdout=1")
    attached = ask(docker.socket, "POST", f"/v{version}/containers/one/attach?logs=1&stdout=1")

    assert [answer.headers["Content-Type"] for answer in (logs, attached)] == [kind, kind]


def test_an_old_client_s_container_does_not_remove_itself(docker: Launcher) -> None:
    body = {"Image": "busybox", "HostConfig": {"AutoRemove": True}}
    kept = {
        version: ask(
            docker.socket,
            "GET",
            f"/containers/{ask(docker.socket, 'POST', f'/v{version}/containers/create', body).body['Id']}/json",
        ).body["HostConfig"]["AutoRemove"]
        for version in ("1.24", "1.25")
    }

    assert kept == {"1.24": False, "1.25": True}


def test_aliases_have_the_short_id_before_1_45(docker: Launcher) -> None:
    docker.docker("network", "create", "net")
    ident = docker.docker("run", "-d", "--name", "one", "--network", "net", "busybox", "sleep", "1000")

    aliases = {
        version: ask(docker.socket, "GET", f"/v{version}/containers/one/json").body["NetworkSettings"][
            "Networks"
        ]["net"]["Aliases"]
        for version in ("1.44", "1.45")
    }

    assert aliases == {"1.44": [ident[:12]], "1.45": None}
    docker.docker("rm", "-f", "one")
    docker.docker("network", "rm", "net")


# What HTTP allows


@contextlib.contextmanager
def raw(docker: Launcher, content: bytes) -> Iterator[socket.socket]:
    """A connection that has sent this."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(docker.socket)
        client.sendall(content)
        yield client


_CREATE = b'{"Image": "busybox", "Cmd": ["true"]}'


def test_a_body_in_chunks_is_taken(docker: Launcher) -> None:
    head = (
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunks = (
        b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (_CREATE[:9], _CREATE[9:])) + b"0\r\n\r\n"
    )
    with raw(docker, head + chunks) as client:
        assert read_until(client, b'"Warnings"').startswith(b"HTTP/1.1 201")


def test_who_expects_to_be_told_to_go_on_is_told(docker: Launcher) -> None:
    head = (
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(_CREATE)
    )
    with raw(docker, head) as client:
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue")
        client.sendall(_CREATE)
        assert read_until(client, b'"Warnings"').startswith(b"HTTP/1.1 201")


def test_a_connection_serves_many_requests_also_after_errors(docker: Launcher) -> None:
    with contextlib.closing(UnixConnection(docker.socket)) as connection:
        connection.connect()
        first = connection.sock
        statuses = []
        for method, path, body in (
            ("GET", "/_ping", None),
            ("GET", "/containers/nosuch/json", None),
            ("POST", "/containers/create", "{"),
            ("HEAD", "/_ping", None),
            ("GET", "/containers/json", None),
        ):
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)

        assert statuses == [200, 404, 400, 200, 200]
        assert connection.sock is first


def test_an_archive_in_chunks_is_unpacked(docker: Launcher, tmp_path: Path) -> None:
    """As `docker cp - ` sends it: nobody knows how long it is."""
    docker.docker("create", "--name", "one", "busybox")
    (tmp_path / "file").write_bytes(os.urandom(3 << 20))
    archive = subprocess.run(["tar", "-C", tmp_path, "-c", "file"], capture_output=True, check=True).stdout
    with contextlib.closing(UnixConnection(docker.socket)) as connection:
        pieces = [archive[place : place + 100_000] for place in range(0, len(archive), 100_000)]
        connection.request(
            "PUT",
            "/containers/one/archive?path=/tmp",
            iter(pieces),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        assert connection.getresponse().status == 200

    docker.docker("cp", "one:/tmp/file", str(tmp_path / "back"))

    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


# Many, slow, gone


_LONG = (
    "GET /containers/one/logs?stdout=1&follow=1",
    "GET /events",
    "GET /containers/one/stats",
    "POST /containers/one/wait",
    "POST /containers/one/attach?stream=1&stdout=1&stdin=1",
    "POST /containers/waiting/attach?stream=1&stdout=1",
    "GET /containers/one/export",
    "GET /containers/waiting/export",
    "GET /containers/waiting/archive?path=/",
)


def _opened(docker: Launcher, request: str) -> socket.socket:
    """A connection whose answer has begun."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(docker.socket)
    method, path = request.split()
    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
    read_until(client, b"\r\n\r\n")
    return client


def _held(docker: Launcher) -> tuple[int, int]:
    """(threads, descriptors) of the launcher."""
    assert docker.process is not None
    place = Path("/proc") / str(docker.process.pid)
    return len(list((place / "task").iterdir())), len(list((place / "fd").iterdir()))


@pytest.fixture
def streaming(docker: Launcher) -> Launcher:
    """With `one` that speaks all the time, and `waiting`, which was not started."""
    docker.docker(
        "run", "-di", "--name", "one", "busybox", "sh", "-c", "while :; do echo word; sleep 0.05; done"
    )
    docker.docker("create", "--name", "waiting", "busybox")
    return docker


def test_many_streams_at_once_stop_nobody(streaming: Launcher) -> None:
    clients = [_opened(streaming, request) for request in _LONG[:5] for _ in range(50)]
    try:
        assert ask(streaming.socket, "GET", "/containers/json").status == 200
        assert streaming.docker("run", "--rm", "busybox", "echo", "here") == "here"
    finally:
        for client in clients:
            client.close()


def test_who_reads_nothing_holds_up_nobody(streaming: Launcher) -> None:
    streaming.docker("run", "-d", "--name", "loud", "busybox", "yes", "x" * 1000)
    slow = [_opened(streaming, f"GET /containers/{name}/logs?stdout=1&follow=1") for name in ("loud",) * 5]
    slow += [_opened(streaming, "GET /events") for _ in range(5)]
    try:
        quick = _opened(streaming, "GET /containers/one/logs?stdout=1&follow=1")
        read_until(quick, b"word")
        quick.close()
        streaming.docker("rm", "-f", "loud")
        assert ask(streaming.socket, "GET", "/_ping").status == 200
    finally:
        for client in slow:
            client.close()


@pytest.mark.parametrize("request_line", _LONG)
def test_a_client_that_goes_leaves_nothing_behind(streaming: Launcher, request_line: str) -> None:
    _come_and_go(streaming, request_line)  # pools grow
    before = _rested(streaming)

    _come_and_go(streaming, request_line)

    eventually(lambda: _is_back(_held(streaming), before))


_CLIENTS = 8


def _come_and_go(docker: Launcher, request_line: str) -> None:
    clients = [_opened(docker, request_line) for _ in range(_CLIENTS)]
    for client in clients:
        client.close()


def _is_back(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """A pool may have grown by a thread or two, but not by one for each client."""
    return now[0] < before[0] + _CLIENTS // 2 and now[1] <= before[1]


def _rested(docker: Launcher) -> tuple[int, int]:
    """What it holds once that stays the same, over the longest time until a stream looks for its client."""
    seen: list[tuple[int, int]] = []

    def stays() -> bool:
        seen.append(_held(docker))
        threading.Event().wait(0.1)
        return len(seen) > _STAYS and len(set(seen[-_STAYS:])) == 1

    eventually(stays)
    return seen[-1]


_STAYS = 12
