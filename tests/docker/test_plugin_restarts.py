"""Restarts, crashes and absences: of dockerd, of cnmd, of both; what runs goes on, what is gone leaves nothing."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, DockerLab, eventually

pytestmark = [NEEDS_DOCKERD, pytest.mark.usefixtures("nothing_is_left")]

LAB = {"config": "forget-seconds = 2\n"}

NETWORK = ("--driver", "cnm", "--ipam-driver", "cnm", "--subnet", "10.83.0.0/24")


def test_networks_and_restarting_containers_come_back_with_dockerd(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80", "--restart", "always")
    address = lab.address("front", "web")

    lab.end_docker()
    assert lab.cnmd.ask("GET", "/cnm/v1/endpoints") == []
    lab.start_docker()

    eventually(lambda: lab.fetches())
    assert lab.address("front", "web") == address
    assert lab.docker("network", "ls", "--filter", "driver=cnm", "--format", "{{.Name}}") == "web"
    assert lab.findings() == []


def test_after_a_killed_dockerd_its_containers_start_again_and_nothing_is_left_of_before(
    lab: DockerLab,
) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80", "--restart", "always")
    lab.run("back", "--network", "web", "--ip", "10.83.0.99")

    lab.end_docker(signal.SIGKILL)
    lab.start_docker()
    eventually(lambda: lab.fetches())
    lab.docker("start", "back")

    assert lab.address("back", "web") == "10.83.0.99"
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"
    eventually(lambda: len(lab.cnmd.ask("GET", "/cnm/v1/endpoints")) == 2)
    assert lab.findings() == []


def test_containers_talk_on_while_cnmd_is_killed_and_after_it_is_back(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80")
    lab.run("back", "--network", "web")

    lab.cnmd.kill()
    assert lab.fetches()
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"
    lab.cnmd.start()

    assert lab.findings() == []
    assert lab.fetches()
    lab.docker("restart", "--time", "0", "back")
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"


def test_a_network_that_was_removed_while_cnmd_was_away_is_forgotten(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    eventually(lambda: "web" in lab.cnmd.cnmctl("network", "ls").stdout)

    lab.cnmd.kill()
    lab.docker("network", "rm", "web")
    lab.cnmd.start()

    eventually(lambda: "web" not in lab.cnmd.cnmctl("network", "ls").stdout, 60)


def test_dockerd_waits_for_a_cnmd_that_starts_later(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80", "--restart", "always")
    lab.end_docker()
    lab.cnmd.kill()

    later = threading.Timer(1.0, lab.cnmd.start)
    later.start()
    lab.start_docker()
    later.join()

    eventually(lambda: lab.fetches(), 40)
    assert lab.findings() == []


def test_without_cnmd_dockerd_starts_and_containers_of_other_networks_run(lab: DockerLab) -> None:
    lab.docker("network", "create", *NETWORK, "web")
    lab.end_docker()
    lab.cnmd.kill()

    lab.start_docker()
    lab.run("other")
    with pytest.raises(RuntimeError):
        lab.run("front", "--network", "web")
    lab.cnmd.start()
    lab.docker("rm", "--force", "front")
    lab.run("front", "--network", "web")

    assert lab.address("front", "web")


def test_both_killed_and_the_machine_started_again(lab: DockerLab) -> None:
    """A reboot takes namespaces and links along; the store and dockerd's own remain."""
    lab.docker("network", "create", *NETWORK, "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80", "--restart", "always")
    lab.run("back", "--network", "web")

    lab.end_docker(signal.SIGKILL)
    lab.cnmd.kill()
    for link in lab.links():
        lab.host.run(["ip", "link", "delete", link], check=False)
    lab.host.run(["nft", "flush", "ruleset"])
    lab.cnmd.start()
    lab.start_docker()

    eventually(lambda: lab.fetches(), 30)
    lab.docker("start", "back")
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"
