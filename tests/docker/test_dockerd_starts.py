"""The dockerd that this rung and the bench stand on starts in our namespaces and runs containers there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD
from tests.support.dockerd import Dockerd, make_image, start_dockerd
from tests.support.unpacked import environment

pytestmark = NEEDS_DOCKERD


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    with start_dockerd(tmp_path_factory.mktemp("dockerd")) as daemon:
        yield daemon


def test_its_bridge_is_in_our_namespace(dockerd: Dockerd) -> None:
    assert "docker0" in Path("/proc/net/dev").read_text()
    assert dockerd.docker("network", "inspect", "bridge", "-f", "{{.Driver}}") == "bridge"


def test_a_container_reaches_its_gateway(dockerd: Dockerd) -> None:
    image = make_image(dockerd)
    gateway = "172.17.0.1"

    answer = dockerd.docker("run", "--rm", image, "ping", "-c", "1", "-W", "5", gateway)

    assert "1 packets received" in answer


def test_it_writes_its_firewall_with_the_unpacked_iptables(dockerd: Dockerd) -> None:
    rules = subprocess.run(
        ["iptables", "-S", "FORWARD"], env=environment(), capture_output=True, text=True, check=True
    )

    assert "-j DOCKER-USER" in rules.stdout
