"""Sockets that a service manager holds for cnmd: what dockerd asks while cnmd is away waits, and is answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from netns_fixtures import Topology
from tests.docker.docker_lab import IMAGE, NEEDS_DOCKERD, PLUGINS, DockerLab, eventually, world
from tests.support.activated import SocketUnit
from tests.support.dockerd import make_image

pytestmark = NEEDS_DOCKERD

_ANSWER_SECONDS = 5.0
"""dockerd itself would try again after 1, 2, 4 and 8 s, and give up after 15."""


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    """Without cnmd."""
    with Topology(world()) as topology:
        made = DockerLab(topology, tmp_path_factory.mktemp("lab"))
        unit = SocketUnit([f"{PLUGINS}/cnm.sock"], popen=made.host.popen)
        made.cnmd.popen = unit.popen
        made.start_docker()
        assert made.dockerd is not None
        make_image(made.dockerd, IMAGE)
        try:
            yield made
        finally:
            made.close()
            unit.close()


@pytest.fixture
def asking() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def _answer_comes_with_cnmd(lab: DockerLab, asked: Future[str]) -> str:
    time.sleep(1)
    assert not asked.done()
    lab.cnmd.start()
    return asked.result(_ANSWER_SECONDS)


def test_commands_given_while_cnmd_is_away_are_carried_out_when_it_comes(
    lab: DockerLab, asking: ThreadPoolExecutor
) -> None:
    created = asking.submit(lab.docker, "network", "create", "--driver", "cnm", "web")
    ident = _answer_comes_with_cnmd(lab, created)
    lab.serve("front", "--network", "web", "--publish", "8080:80")

    lab.cnmd.stop()
    removed = asking.submit(lab.docker, "rm", "--force", "front")
    _answer_comes_with_cnmd(lab, removed)

    assert lab.docker("network", "inspect", "web", "--format", "{{.Id}}") == ident
    lab.docker("network", "rm", "web")
    lab.assert_nothing_is_left()


def _come_later(lab: DockerLab) -> None:
    time.sleep(2)
    lab.cnmd.start()


def test_a_dockerd_that_starts_before_cnmd_brings_its_containers_back(
    lab: DockerLab, asking: ThreadPoolExecutor
) -> None:
    """Without sockets to wait at, it needs half a minute and leaves them stopped."""
    lab.cnmd.start()
    lab.docker("network", "create", "--driver", "bridge", "--ipam-driver", "cnm", "own")
    lab.run("front", "--network", "own", "--restart", "always")
    lab.end_docker()
    lab.cnmd.stop()
    started = time.monotonic()

    coming = asking.submit(_come_later, lab)
    lab.start_docker()  # in this thread, with which it would end
    coming.result()

    assert time.monotonic() - started < 25
    eventually(lambda: lab.docker("ps", "--format", "{{.Names}}") == "front")
