"""Docker's own client beside ours, against the same answers: same requests, same output, and no flag missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.cli.main import group, main
from tests.unit.cli_daemon import FakeDaemon, Request, container, fake_daemon, network

OLDEST = 28
"""Before this the client knew neither --ipv4 nor --gw-priority."""


def _docker() -> str | None:
    path = shutil.which("docker")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"version (\d+)", said)
    return path if version and int(version[1]) >= OLDEST else None


DOCKER = _docker()
pytestmark = pytest.mark.skipif(DOCKER is None, reason=f"needs the docker command, {OLDEST} or newer")


class Both:
    """The same words given to both clients."""

    def __init__(self, daemon: FakeDaemon, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon = daemon
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{daemon.socket}", "HOME": str(home)}
        self._capsys = capsys

    def docker(self, *words: str) -> tuple[int, str, str]:
        assert DOCKER
        done = subprocess.run(
            [DOCKER, *words], env=self._environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def cnmctl(self, *words: str) -> tuple[int, str, str]:
        code = main(["-H", self.daemon.socket, *words])
        out, err = self._capsys.readouterr()
        return code, out, err


VERSION = "/v1.48"


@pytest.fixture
def both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Both]:
    with fake_daemon() as daemon:
        head = b"HTTP/1.1 200 OK\r\nApi-Version: 1.48\r\nOstype: linux\r\nConnection: close\r\n\r\n"
        daemon.sends("HEAD", "/_ping", head)
        yield Both(daemon, tmp_path, capsys)


def answers(both: Both, method: str, path: str, body: Any = None, status: int = 200) -> None:
    for prefix in ("", VERSION):
        both.daemon.answers(method, prefix + path, body, status)


@pytest.fixture
def networks(both: Both) -> Both:
    inside = {"5" * 64: container("front", "172.18.0.2/16"), "6" * 64: container("back", "172.18.0.3/16")}
    web = network(
        "web", containers=inside, labels={"env": "prod"}, options={"com.docker.network.driver.mtu": "1400"}
    )
    found = [network("web10", "b", driver="cnm"), network("web9", "9", internal=True), web]
    answers(both, "GET", "/networks", found)
    for each in found:
        answers(both, "GET", f"/networks/{each['Name']}", each)
        answers(both, "DELETE", f"/networks/{each['Name']}", status=204)
    for prefix in ("", VERSION):
        both.daemon.refuses("GET", f"{prefix}/networks/nope", 404, "network nope not found")
        both.daemon.refuses("DELETE", f"{prefix}/networks/nope", 404, "network nope not found")
    return both


@pytest.mark.parametrize(
    "words",
    [
        ["ls"],
        ["list", "-q"],
        ["ls", "--no-trunc"],
        ["ls", "--format", "json"],
        ["ls", "--format", "table"],
        ["ls", "--format", ""],
        ["ls", "-q", "--format", "{{.Name}}"],
        ["ls", "--format", r"{{.ID}}\t{{.Name}} {{.CreatedAt}} {{.IPv4}} {{.IPv6}} {{.Internal}}"],
        ["ls", "--format", r'table {{.Name}}\t{{.Labels}}\t{{.Label "com.x.env"}}\t{{.Scope}}'],
        ["ls", "--format", r"table {{upper .Name}} {{pad .Driver 1 2}}\t{{truncate .ID 3}}\t{{json .Scope}}"],
        ["ls", "--format", "{{json .}}"],
        ["ls", "--format", "tablex"],
        ["inspect", "web", "web9"],
        ["inspect", "--format", "json", "web"],
        ["inspect", "-f", "{{json .}}", "web9", "web"],
        ["inspect", "-f", "{{.}}", "web9"],
        [
            "inspect",
            "-f",
            "{{.Name}} {{range $k, $v := .Containers}}{{$k}}={{$v.IPv4Address}} {{end}}",
            "web",
        ],
        ["inspect", "-f", "{{(index .IPAM.Config 0).Gateway}} {{.IPAM}} {{.Options}}", "web"],
        ["inspect", "-f", '{{.Id}} {{index .Labels "env"}} {{len .Containers}}', "web"],
        ["rm", "web", "web9"],
        ["rm", "-f", "nope"],
    ],
    ids=" ".join,
)
def test_output_and_exit_code_are_dockers(networks: Both, words: list[str]) -> None:
    assert networks.cnmctl("network", *words) == networks.docker("network", *words)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "web", "nope", "web9"],
        ["inspect", "nope"],
        ["ls", "--format", "{{.Nope}}"],
        ["ls", "--format", "{{.Name"],
        ["ls", "--format", "{{.Label}}"],
        ["inspect", "-f", "{{.IPAM.Config.Nope}}", "web"],
        ["create", "--gateway", "10.0.0.1", "x"],
        ["create", "--subnet", "10.0.0.0/24", "--gateway", "10.1.0.1", "x"],
    ],
    ids=" ".join,
)
def test_failures_say_what_docker_says(networks: Both, words: list[str]) -> None:
    ours, theirs = networks.cnmctl("network", *words), networks.docker("network", *words)

    assert ours[0] == theirs[0] == 1
    assert ours[1].strip() == theirs[1].strip()
    assert ours[2].removeprefix("cnmctl: ") == theirs[2]


@pytest.mark.parametrize(
    "words",
    [
        ["create", "x"],
        [
            "create",
            "x",
            "--ipv6",
            "--internal=false",
            "-o",
            "a=b",
            "--label",
            "c",
            "-d",
            "cnm",
            "--attachable",
        ],
        [
            "create",
            "x",
            "--subnet",
            "10.0.0.0/24,fd00::/64",
            "--gateway",
            "fd00::1",
            "--aux-address",
            "a=10.0.0.9",
        ],
        [
            "create",
            "x",
            "--config-only",
            "--config-from",
            "y",
            "--scope",
            "local",
            "--ingress",
            "--ipam-opt",
            "a=b",
        ],
        ["disconnect", "web", "front"],
        ["disconnect", "-f", "web", "front"],
        ["prune", "-f", "--filter", "label=a", "--filter", "until=24h"],
        ["ls", "-f", "name=a", "--filter", "NAME=b", "-f", "driver=bridge"],
        ["inspect", "-v", "web"],
    ],
    ids=" ".join,
)
def test_requests_are_dockers(networks: Both, words: list[str]) -> None:
    answers(networks, "POST", "/networks/create", {"Id": "1" * 64, "Warning": ""}, 201)
    answers(networks, "POST", "/networks/web/disconnect")
    answers(networks, "POST", "/networks/prune", {"NetworksDeleted": ["a"]})
    asked = networks.daemon.requests

    ours = networks.cnmctl("network", *words)
    our_requests = asked.copy()
    asked.clear()
    theirs = networks.docker("network", *words)

    assert ours == theirs
    assert [_plain(request.body) for request in our_requests] == [
        _plain(request.body) for request in asked if request.method != "HEAD"
    ]
    assert [_query(request) for request in our_requests] == [
        _query(request) for request in asked if request.method != "HEAD"
    ]


def _plain(body: Any) -> Any:
    """A request's body less what stands for "not given"; Docker's client sends subnets in an order of chance."""
    if not isinstance(body, dict):
        return body
    if body.get("IPAM"):
        body["IPAM"]["Config"].sort(key=lambda config: config["Subnet"])
    return {key: value for key, value in body.items() if value is not None}


def _query(request: Request) -> dict[str, Any]:
    return {key: json.loads(text) if key == "filters" else text for key, text in request.query.items()}


def test_connect_asks_what_docker_asks(networks: Both) -> None:
    answers(networks, "POST", "/networks/web/connect")
    words = (
        *("network", "connect", "web", "front", "--ip", "10.0.0.2", "--ip6", "fd00::2", "--alias", "a,b"),
        *("--link", "db:x", "--link-local-ip", "169.254.1.1", "--driver-opt", "k=v", "--gw-priority", "-5"),
    )

    networks.cnmctl(*words)
    networks.docker(*words)

    ours, theirs = (request.body for request in networks.daemon.requests if request.method == "POST")
    assert ours["Container"] == theirs["Container"]
    theirs = {key: value for key, value in theirs["EndpointConfig"].items() if value}
    assert ours["EndpointConfig"] == theirs


_NOT_DOCKERS = {"peers"}
_SHARED = [each.name for each in group("network").commands if each.name not in _NOT_DOCKERS]


@pytest.mark.parametrize("name", _SHARED)
def test_every_flag_of_docker_is_taken(both: Both, name: str) -> None:
    _, out, _ = both.docker("network", name, "--help")
    theirs = set(re.findall(r"^ {2}(?:-(\w), | {4})--([\w-]+)", out, re.MULTILINE))

    ours = {(flag.short, flag.name) for flag in group("network").find(name).flags}

    assert theirs
    assert theirs <= ours


def test_every_command_of_docker_is_there(both: Both) -> None:
    _, out, _ = both.docker("network", "--help")
    theirs = set(re.findall(r"^ {2}(\w+) ", out.partition("Commands:")[2], re.MULTILINE))

    assert theirs == set(_SHARED)
