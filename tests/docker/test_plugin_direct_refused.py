"""Links are moved, whatever is asked for, where it is not known that dockerd bears others."""

from __future__ import annotations

import time
from pathlib import Path

from tests.docker.docker_lab import NEEDS_DOCKERD, DockerLab, running_lab

pytestmark = NEEDS_DOCKERD

DIRECT = "docker-direct = true\n"


def connected(lab: DockerLab) -> str:
    """The addresses of a container that was connected while it ran, long after cnmd could have learnt something."""
    lab.docker("network", "create", "--driver", "cnm", "--subnet", "10.84.0.0/24", "web")
    lab.run("front")
    time.sleep(2)
    lab.docker("network", "connect", "web", "front")
    return lab.inside("front", "ip", "address")


def test_by_the_settings_of_cnmd_it_is_asked_for_on_every_network(tmp_path: Path) -> None:
    with running_lab(tmp_path, config=DIRECT) as lab:
        assert "10.84.0.2/32" in connected(lab)


def test_with_live_restore_before_version_29_links_are_moved(tmp_path: Path) -> None:
    with running_lab(tmp_path, config=DIRECT, flags=("--live-restore",)) as lab:
        assert "10.84.0.2/24" in connected(lab)


def test_of_a_dockerd_that_is_not_asked_nothing_is_known_so_links_are_moved(tmp_path: Path) -> None:
    with running_lab(tmp_path, config=DIRECT, docker_host="") as lab:
        assert "10.84.0.2/24" in connected(lab)
