"""Docker's own clients, unmodified: the docker command and docker-py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import docker.types
import pytest

from tests.unit.api_served import Served, serving

_COMMAND = shutil.which("docker")
needs_command = pytest.mark.skipif(_COMMAND is None, reason="the docker command is not installed")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, threads=4) as served:
        yield served


def _run(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_CONFIG": os.path.dirname(served.path)}
    command = [str(_COMMAND), "-H", f"unix://{served.path}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


@needs_command
def test_docker_network_from_create_to_rm(served: Served) -> None:
    served.ask("POST", "/cnm/v1/sandboxes", {"Name": "app"})

    created = _run(
        served, "network", "create", "--subnet", "10.9.0.0/24", "--label", "team=a", "-o", "k=v", "web"
    )
    connected = _run(served, "network", "connect", "--ip", "10.9.0.7", "--alias", "www", "web", "app")
    listed = _run(
        served, "network", "ls", "--filter", "label=team=a", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"
    )
    inspected = json.loads(_run(served, "network", "inspect", "web").stdout)
    busy = _run(served, "network", "rm", "web")
    disconnected = _run(served, "network", "disconnect", "web", "app")
    removed = _run(served, "network", "rm", "web")

    assert created.stdout.strip() == inspected[0]["Id"]
    assert (connected.returncode, disconnected.returncode) == (0, 0)
    assert listed.stdout == "web bridge local\n"
    assert [held["Name"] for held in inspected[0]["Containers"].values()] == ["app"]
    assert [held["IPv4Address"] for held in inspected[0]["Containers"].values()] == ["10.9.0.7/24"]
    assert (busy.returncode, "has active endpoints" in busy.stderr) == (1, True)
    assert (removed.returncode, removed.stdout) == (0, "web\n")


@needs_command
def test_docker_network_inspect_prints_what_exists_and_fails_for_the_rest(served: Served) -> None:
    inspected = _run(served, "network", "inspect", "bridge", "nope", "none")

    assert inspected.returncode == 1
    assert [network["Name"] for network in json.loads(inspected.stdout)] == ["bridge", "none"]
    assert inspected.stderr == "Error response from daemon: network nope not found\n"


@needs_command
def test_docker_network_rm_removes_what_it_can(served: Served) -> None:
    for name in ("a", "b", "c"):
        _run(served, "network", "create", name)
    served.ask("POST", "/cnm/v1/endpoints", {"Network": "b"})

    removed = _run(served, "network", "rm", "a", "b", "c")

    assert (removed.returncode, removed.stdout) == (1, "a\nc\n")


@needs_command
def test_docker_network_prune_deletes_what_is_unused(served: Served) -> None:
    _run(served, "network", "create", "web")

    assert _run(served, "network", "prune", "--force").stdout == "Deleted Networks:\nweb\n\n"
    assert _run(served, "network", "prune", "--force").stdout == ""


@needs_command
def test_docker_inspect_finds_a_network_by_its_name(served: Served) -> None:
    found, missing = _run(served, "inspect", "bridge"), _run(served, "inspect", "nope")

    assert json.loads(found.stdout)[0]["Name"] == "bridge"
    assert (missing.returncode, missing.stderr) == (1, "Error: No such object: nope\n")


@needs_command
@pytest.mark.parametrize("words", [("version",), ("info",), ("ps",), ("network", "ls")])
def test_docker_prints_without_complaint(served: Served, words: tuple[str, ...]) -> None:
    printed = _run(served, *words)

    assert printed.returncode == 0
    assert "error" not in (printed.stdout + printed.stderr).lower()


@needs_command
def test_docker_events_prints_the_past(served: Served) -> None:
    _run(served, "network", "create", "web")

    printed = _run(
        served, "events", "--since", "1h", "--until", f"{time.time():.9f}", "--filter", "type=network"
    )

    assert "network create" in printed.stdout
    assert "(name=web, type=bridge)" in printed.stdout


@needs_command
@pytest.mark.parametrize("version", ["1.24", "1.41", "1.50"])
def test_docker_of_any_version_lists_networks(
    served: Served, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_API_VERSION", version)

    assert _run(served, "network", "ls", "--format", "{{.Name}}").stdout == "bridge\nhost\nnone\n"


def test_docker_py_creates_connects_and_removes(served: Served) -> None:
    client = docker.DockerClient(base_url=f"unix://{served.path}")
    _, sandbox = served.ask("POST", "/cnm/v1/sandboxes", {"Name": "app"})
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.9.0.0/24")])

    network = client.networks.create("web", ipam=ipam, labels={"team": "a"}, check_duplicate=True)
    network.connect("app", ipv4_address="10.9.0.7", aliases=["www"])
    network.reload()
    held = network.attrs["Containers"]
    network.disconnect("app")
    network.remove()

    assert held[sandbox["Id"]]["IPv4Address"] == "10.9.0.7/24"
    assert [other.name for other in client.networks.list()] == ["bridge", "host", "none"]
    with pytest.raises(docker.errors.NotFound):
        client.networks.get("web")
    client.close()


def test_docker_py_follows_events(served: Served) -> None:
    client = docker.DockerClient(base_url=f"unix://{served.path}")
    events = client.events(decode=True)

    client.networks.create("web")

    assert next(iter(events))["Actor"]["Attributes"]["name"] == "web"
    events.close()
    client.close()
