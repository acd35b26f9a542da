"""The laboratory of a file with a real dockerd: one for all its tests, with the settings that its `LAB` names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.docker_lab import DockerLab, running_lab
from tests.docker.shown_stage import Client, Stage, clients, running_stage


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    """`LAB` are named arguments of `running_lab`."""
    with running_lab(tmp_path_factory.mktemp("lab"), **getattr(request.module, "LAB", {})) as running:
        yield running


@pytest.fixture
def nothing_is_left(lab: DockerLab) -> Iterator[None]:
    """After the test its containers and networks are removed by dockerd's commands, and cnmd knows of nothing."""
    yield
    lab.remove_everything()
    lab.assert_nothing_is_left()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A dockerd with containers of all sorts, for clients to show."""
    with running_stage(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(
    params=[
        pytest.param(
            client, id=f"docker {client.version}", marks=[pytest.mark.skip(reason=lack)] if lack else []
        )
        for client, lack in clients()
    ],
    scope="module",
)
def client(request: pytest.FixtureRequest) -> Client:
    """Each of Docker's own clients."""
    found: Client = request.param
    return found
