"""The launcher rung's fixtures: real runc and conmon, one folder of containers for a module."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import building
from tests.support import launcher as lab
from tests.support.launcher_crashes import Forks, forking
from tests.support.small_containers import Containers, containers
from tests.support.unpacked import lacking

if TYPE_CHECKING:
    from tests.cluster.hosts import ClusterLab


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Makes containers; what is left of them ends with the module."""
    if reason := lacking("runc", "conmon", "busybox"):
        pytest.skip(reason)
    with containers(tmp_path_factory.mktemp("c")) as made:
        yield made


@pytest.fixture(scope="module")
def launcher() -> Iterator[lab.Launcher]:
    """A launcher beside a cnmd, with the image busybox; in a folder whose path podman can bear."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder)) as launcher,
    ):
        yield launcher


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterLab]:
    """Two hosts, on which launchers can run: a member and one that is none."""
    from tests.cluster.hosts import joined_lab  # it takes half a second, which few tests need spend

    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with joined_lab(members=1, clients=1) as joined:
        yield joined


@pytest.fixture
def docker(launcher: lab.Launcher) -> Iterator[lab.Launcher]:
    """The same, without containers before and after."""
    yield launcher
    launcher.clear()


@pytest.fixture
def builder(docker: lab.Launcher) -> Iterator[lab.Launcher]:
    """The same; what was built goes again, and nothing else is left."""
    with building.built(docker) as builder:
        yield builder


@pytest.fixture
def project(tmp_path: Path) -> building.Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return building.Project(folder)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Launchers that can be killed at any point of what they do."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with forking() as forks:
        yield forks


@pytest.fixture
def tidy(forks: Forks) -> Iterator[Forks]:
    """The same; what a test that failed has left does not have the next one fail."""
    yield forks
    if forks.is_serving:
        forks.clear()
        forks.kill()
