"""Debian's docker-compose 1.29, unmodified: a project of two networks with names, ports, bind mounts and scale."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import compose as support
from tests.support.compose import Compose
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.small_containers import eventually

pytestmark = pytest.mark.skipif(bool(support.lacking()), reason=support.lacking())

_PROJECT = """\
version: "2.4"
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /www
    volumes: ["./data:/www:ro"]
    networks: {front: {aliases: [site]}, back: {}}
    ports: ["18080:80"]
    labels: {tier: web}
    stop_grace_period: 0s
  client:
    image: busybox
    command: sh -c "echo started; exec sleep 1000"
    networks: [front]
    depends_on: [web]
    environment: {WHO: client}
    stop_grace_period: 0s
  db:
    image: busybox
    command: sleep 1000
    container_name: the-db
    networks: {back: {ipv4_address: 10.98.0.50}}
    stop_grace_period: 0s
networks:
  front: {}
  back:
    internal: true
    ipam: {config: [{subnet: 10.98.0.0/24}]}
"""


@pytest.fixture(scope="module")
def project(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """It is up; each test leaves it so."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "docker-compose.yml").write_text(_PROJECT)
    (folder / "data").mkdir()
    (folder / "data" / "index.html").write_text("from the host\n")
    compose = Compose(folder, launcher.socket)
    compose("up", "-d")
    yield compose
    compose("down")
    assert launcher.docker("ps", "-aq") == ""
    assert launcher.docker("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]


def _in(launcher: Launcher, container: str, *command: str) -> str:
    return launcher.docker("exec", container, *command)


def _ids(launcher: Launcher) -> dict[str, str]:
    lines = launcher.docker("ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}").splitlines()
    return dict(line.split() for line in lines)


def test_all_services_are_up_with_their_ports(project: Compose) -> None:
    shown = project("ps")

    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["shop_client_1", "shop_web_1", "the-db"]
    assert "0.0.0.0:18080->80/tcp" in shown
    assert len(re.findall(r"\bUp\b", shown)) == 3
    assert project("port", "web", "80") == "0.0.0.0:18080"


def test_services_find_each_other_by_name_on_their_networks_only(
    project: Compose, launcher: Launcher
) -> None:
    for name in ("web", "site", "shop_web_1"):
        assert _in(launcher, "shop_client_1", "wget", "-qO-", f"http://{name}/") == "from the host"
    assert "bytes from 10.98.0.50" in _in(launcher, "shop_web_1", "ping", "-c1", "the-db")
    code, _ = launcher.fails("exec", "shop_client_1", "ping", "-c1", "-W1", "the-db")
    assert code != 0


def test_a_second_up_changes_nothing(project: Compose, launcher: Launcher) -> None:
    before = _ids(launcher)

    said = project("up", "-d")

    assert said.count("is up-to-date") == 3
    assert _ids(launcher) == before


@pytest.mark.parametrize(
    "env", [{}, {"COMPOSE_INTERACTIVE_NO_CLI": "1"}], ids=["the docker CLI", "docker-py"]
)
def test_exec_has_a_command_s_output(project: Compose, env: dict[str, str]) -> None:
    assert project("exec", "-T", "client", "sh", "-c", "echo $WHO; pwd", env=env) == "client\n/"


def test_run_has_a_container_s_output(project: Compose) -> None:
    assert project("run", "--rm", "-T", "client", "echo", "once").splitlines()[-1] == "once"


def test_logs_are_shown_and_followed_to_the_end(project: Compose) -> None:
    assert "client_1  | started" in project("logs", "client")
    follower = project.start("logs", "-f", "client")
    assert follower.stdout is not None
    assert any("started" in line for line in follower.stdout)

    project("kill", "client")

    follower.stdout.read()
    assert follower.wait() == 0
    project("start", "client")


def test_events_are_told(project: Compose, launcher: Launcher) -> None:
    listener = project.start("events", "--json")
    assert listener.stdout is not None
    eventually(lambda: ask(launcher.socket, "GET", "/info").body["NEventsListener"] == 1)
    try:
        project("restart", "client")
        actions = []
        while "start" not in actions:
            event = json.loads(listener.stdout.readline())
            assert event["service"] == "client"
            actions.append(event["action"])
        assert actions[-3:] == ["die", "stop", "start"]
    finally:
        listener.kill()
        listener.communicate()


def test_a_service_is_scaled_and_its_name_finds_all(project: Compose, launcher: Launcher) -> None:
    project("up", "-d", "--scale", "client=3")
    assert sorted(name for name in _ids(launcher) if "client" in name) == [
        f"shop_client_{n}" for n in (1, 2, 3)
    ]
    found = _in(launcher, "shop_web_1", "nslookup", "-type=a", "client").count("Address: 172.")
    assert found == 3

    project("up", "-d", "--scale", "client=1")

    assert [name for name in _ids(launcher) if "client" in name] == ["shop_client_1"]


def test_services_are_stopped_started_and_removed_one_by_one(project: Compose, launcher: Launcher) -> None:
    project("stop", "db")
    assert "the-db" not in _ids(launcher)
    project("start", "db")
    project("rm", "-sf", "db")
    assert "the-db" not in launcher.docker("ps", "-a", "--format", "{{.Names}}")

    project("up", "-d")

    assert "the-db" in _ids(launcher)


def test_a_changed_service_is_made_anew_and_the_others_stay(
    project: Compose, launcher: Launcher, tmp_path: Path
) -> None:
    before = _ids(launcher)
    (tmp_path / "more.yml").write_text('version: "2.4"\nservices: {client: {environment: {MORE: "1"}}}\n')

    project("-f", "docker-compose.yml", "-f", str(tmp_path / "more.yml"), "up", "-d")

    after = _ids(launcher)
    assert {name for name in after if after[name] != before[name]} == {"shop_client_1"}
    assert _in(launcher, "shop_client_1", "sh", "-c", "echo $MORE") == "1"
