"""Networks of a cluster appear in the dockerd of every host, whatever stands in the way at first, and go from all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.hosts import NEEDS_ETCD, eventually
from tests.docker.docker_lab import NEEDS_DOCKERD
from tests.docker.overlay_lab import DockerCluster, docker_cluster

pytestmark = [NEEDS_DOCKERD, NEEDS_ETCD]

_CREATE = "cnmctl network create -d overlay --docker"


@pytest.fixture(scope="module")
def lab() -> Iterator[DockerCluster]:
    with docker_cluster(2) as lab:
        yield lab


def test_a_dockerd_that_was_away_gets_the_network_when_it_comes(lab: DockerCluster) -> None:
    one, two = lab.h.values()
    one.end_docker()
    assert one.shell(f"{_CREATE} web").returncode == 0  # on a host whose own dockerd is not there

    eventually(lambda: two.has_network("web"))
    eventually(lambda: any("network web of the cluster cannot be shown" in w for w in one.docker_warnings()))
    (said,) = one.docker_warnings()
    assert "docker.sock does not answer" in said
    assert said.endswith('; where there is to be none, set docker-host = ""')

    one.start_docker()
    eventually(lambda: one.has_network("web"))
    eventually(lambda: one.docker_warnings() == [])
    lab.remove("web")


def test_a_network_that_is_removed_on_one_host_goes_from_every_dockerd(lab: DockerCluster) -> None:
    lab.create("web")
    two = lab.h[2]

    assert two.shell("cnmctl network rm web").stdout == "web\n"

    for host in lab.h.values():
        eventually(lambda host=host: not host.has_network("web"))  # type: ignore[misc]


def test_a_network_that_went_while_a_dockerd_was_away_goes_from_it_too(lab: DockerCluster) -> None:
    lab.create("web")
    one, two = lab.h.values()
    two.end_docker()

    assert one.shell("cnmctl network rm web").returncode == 0

    eventually(lambda: not one.has_network("web"))
    two.start_docker()
    eventually(lambda: not two.has_network("web"))
    assert two.docker_warnings() == []


def test_a_name_that_another_driver_has_in_one_dockerd_keeps_the_others_from_nothing(
    lab: DockerCluster,
) -> None:
    one, two = lab.h.values()
    theirs = two.docker("network", "create", "-d", "bridge", "web")

    assert one.shell(f"{_CREATE} web").returncode == 0

    eventually(lambda: one.has_network("web"))
    eventually(lambda: two.docker_warnings() != [])
    assert two.docker_warnings() == [
        "network web of the cluster is not in Docker here, which has another one of this name: docker network rm "
        f"{theirs[:12]}"
    ]
    assert one.docker_warnings() == []
    one.run("aa", "--network", "web")

    two.docker("network", "rm", "web")
    eventually(lambda: two.network_id("web") not in ("", theirs))
    eventually(lambda: two.docker_warnings() == [])
    two.run("bb", "--network", "web")
    eventually(lambda: two.pings("bb", one.address_of("aa")))
    lab.remove("web")


def test_a_subnet_that_is_a_bridges_in_one_dockerd_is_told_there(lab: DockerCluster) -> None:
    one, two = lab.h.values()
    two.docker("network", "create", "--subnet", "10.77.0.0/16", "theirs")

    assert one.shell(f"{_CREATE} --subnet 10.77.5.0/24 web").returncode == 0

    eventually(lambda: all(host.has_network("web") for host in lab.h.values()))
    said = (
        "subnet 10.77.5.0/24 of network web overlaps with 10.77.0.0/16, which this host is on: sandboxes of web do not "
        "reach that; make the network anew with another subnet"
    )
    eventually(lambda: said in two.cnmd.ask("GET", "/cnm/v1/status")["Warnings"])
    assert not any("overlaps" in line for line in one.cnmd.ask("GET", "/cnm/v1/status")["Warnings"])
    one.run("aa", "--network", "web")
    two.run("bb", "--network", "web")
    eventually(lambda: two.pings("bb", one.address_of("aa")))  # who is on it gets along
    lab.remove("web")
    two.docker("network", "rm", "theirs")


def test_only_overlay_networks_can_be_dockers(lab: DockerCluster) -> None:
    said = lab.h[1].shell("cnmctl network create --docker own")

    assert said.returncode == 1
    assert "only networks of driver overlay appear in Docker" in said.stderr
