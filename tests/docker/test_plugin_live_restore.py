"""dockerd with live-restore: containers run on without it, and are its own again when it is back."""

from __future__ import annotations

import signal
import time

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, DockerLab, eventually

pytestmark = [NEEDS_DOCKERD, pytest.mark.usefixtures("nothing_is_left")]

LAB = {"config": "forget-seconds = 2\n", "flags": ("--live-restore",)}

NETWORK = ("--driver", "cnm", "--ipam-driver", "cnm", "--subnet", "10.83.0.0/24")


def test_containers_keep_their_network_over_a_live_restore(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80")
    address = lab.address("front", "web")

    for number in (signal.SIGTERM, signal.SIGKILL):
        lab.end_docker(number)
        assert lab.fetches()
        lab.start_docker()
        assert lab.fetches()

    lab.serve("back", "--network", "web")
    assert lab.address("front", "web") == address
    assert lab.address("back", "web") != address
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"
    with pytest.raises(RuntimeError, match="Address already in use"):
        lab.docker("run", "--rm", "--network", "web", "--ip", address, "busybox", "true")


def test_a_container_that_ended_while_dockerd_was_away_leaves_nothing(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.run("front", "--network", "web", command=("sleep", "3"))

    lab.end_docker(signal.SIGKILL)
    time.sleep(3)
    lab.start_docker()

    eventually(lambda: lab.docker("ps", "--quiet") == "")
    eventually(lambda: lab.cnmd.ask("GET", "/cnm/v1/endpoints") == [])
