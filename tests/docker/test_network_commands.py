"""Docker's own clients drive a real cnmd: the unmodified CLI of two generations, and docker-py."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.cnmd import Cnmd, running
from tests.support.unpacked import environment, lacking, program


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cnmd]:
    with running(tmp_path_factory.mktemp("cnmd")) as cnmd:
        for name in ("front", "back"):
            cnmd.create_sandbox(name)
        yield cnmd


@pytest.fixture(autouse=True)
def no_networks_left(daemon: Cnmd) -> Iterator[None]:
    yield
    for endpoint in daemon.ask("GET", "/cnm/v1/endpoints"):
        daemon.ask("DELETE", f"/cnm/v1/endpoints/{endpoint['Id']}?force=1")
    daemon.ask("POST", "/networks/prune")
    assert daemon.findings() == []


def _clients() -> Iterator[Any]:
    reason = lacking("docker")
    mark = [pytest.mark.skip(reason=reason)] if reason else []
    yield pytest.param(str(program("docker")), id="docker of Debian", marks=mark)
    installed = shutil.which("docker")
    mark = [] if installed else [pytest.mark.skip(reason="no docker client is installed on this machine")]
    yield pytest.param(installed or "", id="docker of this machine", marks=mark)


@pytest.fixture(params=list(_clients()))
def cli(request: pytest.FixtureRequest, daemon: Cnmd) -> Any:
    """Runs `docker …` and returns the finished process."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [request.param, "-H", f"unix://{daemon.socket}", *words]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)

    return run


def test_create_prints_the_id_that_inspect_shows(cli: Any) -> None:
    created = cli("network", "create", "web")

    shown = cli("network", "inspect", "--format", "{{.Id}} {{.Driver}} {{.Scope}}", "web")

    assert created.returncode == 0, created.stderr
    assert shown.stdout == f"{created.stdout.strip()} bridge local\n"


def test_every_flag_of_create_arrives(cli: Any) -> None:
    created = cli(
        *(
            "network",
            "create",
            "--subnet",
            "10.40.0.0/16",
            "--ip-range",
            "10.40.1.0/24",
            "--gateway",
            "10.40.0.9",
        ),
        *("--aux-address", "printer=10.40.1.1", "--internal", "--ipv6", "--subnet", "fd00:40::/64"),
        *("--label", "tier=back", "-o", "com.docker.network.driver.mtu=1400", "--attachable", "full"),
    )
    assert created.returncode == 0, created.stderr
    (shown,) = json.loads(cli("network", "inspect", "full").stdout)

    assert shown["IPAM"]["Config"][0] == {
        "Subnet": "10.40.0.0/16",
        "IPRange": "10.40.1.0/24",
        "Gateway": "10.40.0.9",
        "AuxiliaryAddresses": {"printer": "10.40.1.1"},
    } or shown["IPAM"]["Config"][0]["AuxiliaryAddress"] == {"printer": "10.40.1.1"}
    assert shown["IPAM"]["Config"][1]["Subnet"] == "fd00:40::/64"
    assert (shown["Internal"], shown["EnableIPv6"], shown["Attachable"]) == (True, True, True)
    assert shown["Labels"] == {"tier": "back"}
    assert shown["Options"] == {"com.docker.network.driver.mtu": "1400"}


def test_list_has_the_predefined_networks_and_filters(cli: Any) -> None:
    cli("network", "create", "--label", "a=b", "web")

    names = cli("network", "ls", "--format", "{{.Name}}").stdout.split()
    labelled = cli("network", "ls", "-q", "--filter", "label=a").stdout.split()
    custom = cli("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").stdout.split()

    assert sorted(names) == ["bridge", "host", "none", "web"]
    assert len(labelled) == 1
    assert custom == ["web"]


def test_connect_with_an_address_and_disconnect(cli: Any, daemon: Cnmd) -> None:
    cli("network", "create", "--subnet", "10.41.0.0/24", "web")

    connected = cli("network", "connect", "--ip", "10.41.0.77", "--alias", "www", "web", "front")
    shown = cli(
        "network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", "web"
    )
    disconnected = cli("network", "disconnect", "web", "front")

    assert connected.returncode == 0, connected.stderr
    assert shown.stdout.strip() == "front 10.41.0.77/24"
    assert disconnected.returncode == 0, disconnected.stderr
    assert daemon.ask("GET", "/cnm/v1/endpoints?network=web") == []


def test_removing_several_goes_on_past_a_busy_one(cli: Any) -> None:
    for name in ("one", "two", "three"):
        cli("network", "create", name)
    cli("network", "connect", "two", "front")

    removed = cli("network", "rm", "one", "two", "three")

    assert removed.returncode == 1
    assert removed.stdout.split() == ["one", "three"]
    assert "has active endpoints" in removed.stderr


def test_inspecting_several_shows_those_that_exist(cli: Any) -> None:
    cli("network", "create", "web")

    shown = cli("network", "inspect", "web", "nosuch")

    assert shown.returncode == 1
    assert [network["Name"] for network in json.loads(shown.stdout)] == ["web"]
    assert "nosuch" in shown.stderr


def test_prune_deletes_what_nobody_uses(cli: Any) -> None:
    for name in ("used", "unused"):
        cli("network", "create", name)
    cli("network", "connect", "used", "back")

    pruned = cli("network", "prune", "--force")

    assert pruned.stdout.split() == ["Deleted", "Networks:", "unused"]


def test_refusals_read_as_docker_words_them(cli: Any) -> None:
    cli("network", "create", "web")

    assert "network with name web already exists" in cli("network", "create", "web").stderr
    assert "pre-defined network and cannot be removed" in cli("network", "rm", "host").stderr
    assert "not found" in cli("network", "connect", "nosuch", "front").stderr


def test_version_and_info_answer(cli: Any) -> None:
    assert cli("version").returncode == 0
    assert cli("info").returncode == 0


def test_events_tell_what_happened(cli: Any, daemon: Cnmd) -> None:
    cli("network", "create", "web")
    cli("network", "connect", "web", "front")
    cli("network", "disconnect", "web", "front")

    told = cli(
        "events",
        "--since",
        "10m",
        "--until",
        f"{time.time():.9f}",
        "--filter",
        "network=web",
        "--format",
        "{{.Action}}",
    )

    assert told.stdout.split()[-3:] == ["create", "connect", "disconnect"]


def test_docker_py_creates_connects_and_removes(daemon: Cnmd, tmp_path: Path) -> None:
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}")
    pool = docker.types.IPAMPool(subnet="10.42.0.0/24", gateway="10.42.0.254")

    network = client.networks.create(
        "py", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={"a": "b"}
    )
    network.connect("front", ipv4_address="10.42.0.5")
    network.reload()
    (attached,) = network.attrs["Containers"].values()
    network.disconnect("front")
    network.remove()

    assert attached["IPv4Address"] == "10.42.0.5/24"
    assert client.networks.list(names=["py"]) == []
    client.close()
