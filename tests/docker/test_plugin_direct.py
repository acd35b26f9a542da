"""Links made inside the container, on a dockerd that is known to bear it, for a network that asks for it."""

from __future__ import annotations

import contextlib

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, OUTSIDE, DockerLab, eventually

pytestmark = [NEEDS_DOCKERD, pytest.mark.usefixtures("nothing_is_left")]

DIRECT = (
    "--driver",
    "cnm",
    "-o",
    "cnm.join=direct",
    "--ipv6",
    "--subnet",
    "10.84.0.0/24",
    "--subnet",
    "fd84::/64",
)


def connect(lab: DockerLab, *options: str) -> None:
    """A running container, connected when cnmd has learnt that dockerd bears it: until then links are moved."""
    lab.docker("network", "create", *DIRECT, "web")
    lab.serve("front")
    eventually(lambda: _is_direct(lab, *options))


def _is_direct(lab: DockerLab, *options: str) -> bool:
    with contextlib.suppress(RuntimeError):
        lab.docker("network", "disconnect", "web", "front")
    lab.docker("network", "connect", *options, "web", "front")
    return "10.84.0.2/32" in lab.inside("front", "ip", "address") or "10.84.0.77/32" in lab.inside(
        "front", "ip", "address"
    )


def test_the_link_is_made_inside_beside_dockers_own(lab: DockerLab) -> None:
    connect(lab)

    addresses = lab.inside("front", "ip", "address", "show", "eth100")
    assert "10.84.0.2/32" in addresses
    assert "fd84::2/128" in addresses
    assert "02:42:0a:54:00:02" in addresses
    assert "172.17.0.2/16" in lab.inside("front", "ip", "address", "show", "eth0")


def test_dockerd_adds_the_default_routes(lab: DockerLab) -> None:
    connect(lab)

    routes = lab.inside("front", "ip", "route")
    assert "default via 10.84.0.1 dev eth100" in routes
    assert "10.84.0.0/24 dev eth100 scope link" in routes
    assert "default via fd84::1 dev eth100" in lab.inside("front", "ip", "-6", "route")


def test_it_reaches_its_network_the_world_and_is_reached_by_name(lab: DockerLab) -> None:
    connect(lab)
    lab.run("back", "--network", "web")

    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", "10.84.0.1")
    assert "1 packets received" in lab.inside("front", "ping", "-6", "-c", "1", "-W", "3", "fd84::1")
    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", OUTSIDE[4])
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"


def test_the_interfaces_name_is_the_users(lab: DockerLab) -> None:
    connect(lab, "--driver-opt", "com.docker.network.endpoint.ifname=up0", "--ip", "10.84.0.77")

    assert "10.84.0.77/32" in lab.inside("front", "ip", "address", "show", "up0")


def test_a_moved_network_beside_it_changes_nothing(lab: DockerLab) -> None:
    connect(lab)
    lab.docker("network", "create", "--driver", "cnm", "db")

    lab.docker("network", "connect", "db", "front")
    assert "eth1" in lab.inside("front", "ip", "link")
    lab.docker("network", "disconnect", "db", "front")

    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", "10.84.0.1")


def test_disconnecting_takes_the_link_away(lab: DockerLab) -> None:
    connect(lab)

    lab.docker("network", "disconnect", "web", "front")

    assert "10.84.0.2" not in lab.inside("front", "ip", "address")
    assert "default via 172.17.0.1" in lab.inside("front", "ip", "route")


def test_where_the_namespace_is_not_there_yet_the_link_is_moved(lab: DockerLab) -> None:
    """dockerd 20.10 joins before it makes the namespace."""
    connect(lab)

    lab.docker("restart", "--time", "0", "front")
    lab.run("back", "--network", "web", "--publish", "8080:80", command=("httpd", "-f", "-h", "/www"))

    assert "10.84.0.3/24" in lab.inside("back", "ip", "address", "show", "eth0")
    eventually(lab.fetches)


def test_a_cnmd_that_starts_again_finds_its_links(lab: DockerLab) -> None:
    connect(lab)

    lab.cnmd.kill()
    lab.cnmd.start()

    assert lab.findings() == []
    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", "10.84.0.1")
