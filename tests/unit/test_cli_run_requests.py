"""What `cnmctl create` asks for is what the docker CLI asks for, of the current one and of Debian's 20.10."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cnm.cli.main import command, main
from tests.support.unpacked import environment, lacking, program
from tests.unit.cli_daemon import FakeDaemon, fake_daemon
from tests.unit.create_lines import DIFFERENT, FILES, OLDER, SAME, WORDED

CURRENT = 28


class Asked(NamedTuple):
    """What came of a command line: a request, or an exit code and its reason."""

    body: Any
    query: dict[str, str]
    code: int
    reason: str


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        for prefix in ("", "/v1.48", "/v1.41"):
            daemon.answers("POST", f"{prefix}/containers/create", {"Id": "1" * 64, "Warnings": None}, 201)
            daemon.answers("GET", f"{prefix}/info", {"OSType": "linux"})
        yield daemon


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOO_HERE", "bar")


def asked_by_us(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], line: str) -> Asked:
    daemon.requests.clear()
    Path("cid").unlink(missing_ok=True)
    code = main(["-H", daemon.socket, "create", *shlex.split(line)])
    return asked(daemon, code, capsys.readouterr().err)


def asked_by(client: str, version: str, daemon: FakeDaemon, line: str) -> Asked:
    daemon.requests.clear()
    Path("cid").unlink(missing_ok=True)
    head = f"HTTP/1.1 200 OK\r\nApi-Version: {version}\r\nOstype: linux\r\nConnection: close\r\n\r\n"
    daemon.sends("HEAD", "/_ping", head.encode())
    surroundings = {**os.environ, "DOCKER_HOST": f"unix://{daemon.socket}"}
    if version != "1.48":
        surroundings |= {"LD_LIBRARY_PATH": environment()["LD_LIBRARY_PATH"]}
    done = subprocess.run(
        [client, "create", *shlex.split(line)], env=surroundings, capture_output=True, text=True, check=False
    )
    return asked(daemon, done.returncode, done.stderr)


def asked(daemon: FakeDaemon, code: int, complaint: str) -> Asked:
    requests = [request for request in daemon.requests if request.path.endswith("/containers/create")]
    if not requests:
        return Asked(None, {}, code, reason(complaint))
    (request,) = requests
    return Asked(normal(request.body), request.query, code, "")


def reason(complaint: str) -> str:
    """A refusal's first line less what every refusal of its program has."""
    first = complaint.strip().partition("\n")[0]
    first = re.sub(r"^(docker|cnmctl): |: see 'cnmctl create --help'$", "", first)
    return first.rstrip(".").lower()


def normal(body: dict[str, Any]) -> Any:
    """A body less what stands for "not given", with capabilities as the daemon understands them."""
    host = body["HostConfig"]
    if host.get("MemorySwappiness") == -1:
        del host["MemorySwappiness"]
    if host.get("ConsoleSize") == [0, 0]:
        del host["ConsoleSize"]
    for key in ("CapAdd", "CapDrop"):
        host[key] = [capability(name) for name in host.get(key) or ()]
    for listed in (body.get("Env"), host.get("Binds")):
        if listed:
            listed.sort()  # Docker's go through a map, in an order of chance
    networks = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    if len(networks) == 1 and not any(map(given, networks.values())):
        del body["NetworkingConfig"]
    return given(body)


def capability(name: str) -> str:
    return name if name == "ALL" else f"CAP_{name.upper().removeprefix('CAP_')}"


def given(value: Any, key: str = "") -> Any:
    """Whether false, 0 or empty means something depends on the key; an empty record as value of a map always does."""
    if isinstance(value, list):
        return [given(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: given(item, name) for name, item in value.items()}
    return {name: item for name, item in kept.items() if item or counts(name, value[name])}


def counts(name: str, value: Any) -> bool:
    if value is None:
        return False
    means_something = {
        "Init",
        "StopTimeout",
        "MaskedPaths",
        "ReadonlyPaths",
        "Entrypoint",
        "MemorySwappiness",
    }
    return name in means_something or (isinstance(value, dict) and not name[:1].isupper())


class TestCurrentClient:
    """The one that is installed on the machine."""

    pytestmark = pytest.mark.skipif(
        not shutil.which("docker")
        or not re.search(
            rf"version {CURRENT}\.",
            subprocess.run(["docker", "--version"], capture_output=True, text=True).stdout,
        ),
        reason=f"needs the docker command, of version {CURRENT}",
    )

    @pytest.mark.parametrize("line", SAME)
    def test_request_or_refusal_is_dockers(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], line: str
    ) -> None:
        assert asked_by_us(daemon, capsys, line) == asked_by("docker", "1.48", daemon, line)

    @pytest.mark.parametrize("line", WORDED)
    def test_refusal_is_dockers_in_other_words(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], line: str
    ) -> None:
        ours, theirs = asked_by_us(daemon, capsys, line), asked_by("docker", "1.48", daemon, line)

        assert ours.code == theirs.code == 125
        assert ours.reason != theirs.reason, "it belongs to SAME"

    @pytest.mark.parametrize("line", DIFFERENT)
    def test_listed_difference_is_one(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], line: str
    ) -> None:
        ours, theirs = asked_by_us(daemon, capsys, line), asked_by("docker", "1.48", daemon, line)

        assert ours != theirs, "it belongs to SAME"

    @pytest.mark.parametrize(
        "name",
        [
            *("attach", "create", "exec", "kill", "pause", "rename", "restart", "rm", "run", "start", "stop"),
            *("unpause", "update", "wait"),
        ],
    )
    def test_every_flag_of_docker_is_taken(self, name: str) -> None:
        out = subprocess.run(["docker", name, "--help"], capture_output=True, text=True, check=True).stdout
        theirs = set(re.findall(r"^ {2}(?:-(\w), | {4})--([\w-]+)", out, re.MULTILINE))
        left_out = {
            *("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"),  # of Windows
            *("disable-content-trust", "use-api-socket", "kernel-memory", "gpus", "help"),
            *("checkpoint", "checkpoint-dir"),
        }

        ours = {(flag.short, flag.name) for flag in command(name).flags}

        assert {flag for flag in theirs if flag[1] not in left_out} == ours


_TAKEN_BY_OLDER = [line for line in (*SAME, *OLDER) if line not in OLDER]


class TestOlderClient:
    """20.10: where both make a request it is the same."""

    pytestmark = pytest.mark.skipif(lacking("docker") != "", reason=lacking("docker"))

    @pytest.mark.parametrize("line", _TAKEN_BY_OLDER)
    def test_request_is_dockers(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], line: str
    ) -> None:
        theirs = asked_by(str(program("docker")), "1.41", daemon, line)
        ours = asked_by_us(daemon, capsys, line)

        if theirs.body is not None and ours.body is not None:
            assert ours == theirs

    @pytest.mark.parametrize("line", OLDER)
    def test_listed_difference_is_one(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], line: str
    ) -> None:
        theirs = asked_by(str(program("docker")), "1.41", daemon, line)
        ours = asked_by_us(daemon, capsys, line)

        assert theirs.body is not None
        assert ours != theirs
