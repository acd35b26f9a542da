"""Containers on networks of cnm and of Docker itself: each reaches its own, nobody else's, and the world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, OUTSIDE, DockerLab, running_lab

pytestmark = NEEDS_DOCKERD

CONTAINERS = {"ours-a": "cnm-a", "ours-b": "cnm-b", "theirs": "docker-user", "default": "bridge"}
"""And the networks that they are on; each network has a second container, `NAME-2`."""
STRANGERS = [(one, other) for one in CONTAINERS for other in CONTAINERS if one != other]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        for name in ("cnm-a", "cnm-b"):
            running.docker("network", "create", "--driver", "cnm", name)
        running.docker("network", "create", "--driver", "bridge", "docker-user")
        for container, network in CONTAINERS.items():
            running.serve(container, "--network", network)
            running.run(f"{container}-2", "--network", network)
        yield running


def reaches(lab: DockerLab, source: str, target: str) -> bool:
    """Whether a container gets a page from another's own address."""
    address = lab.address(target, CONTAINERS[target])
    try:
        return lab.inside(source, "timeout", "2", "wget", "-qO-", f"http://{address}/") == target
    except RuntimeError:
        return False


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_reaches_its_sibling(lab: DockerLab, container: str) -> None:
    assert reaches(lab, f"{container}-2", container)


@pytest.mark.parametrize(("source", "target"), STRANGERS)
def test_a_container_is_not_reached_from_another_network(lab: DockerLab, source: str, target: str) -> None:
    assert not reaches(lab, source, target)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_reaches_the_world(lab: DockerLab, container: str) -> None:
    assert "1 packets received" in lab.inside(container, "ping", "-c", "1", "-W", "3", OUTSIDE[4])


def test_the_rules_in_dockers_chain_are_shown_by_status(lab: DockerLab) -> None:
    (docker,) = lab.cnmd.ask("GET", "/cnm/v1/status")["Neighbours"]

    assert (docker["Name"], docker["State"]) == ("docker", "open")
