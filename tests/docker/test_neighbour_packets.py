"""What packets of our networks and of Docker's do on a host where dockerd drops what it does not forward.

IPv6 is done as docs/firewall.md tells an administrator of Debian's dockerd: he makes the chain, and cnmd opens it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from tests.packet.lab import (
    FAMILIES,
    HOST,
    OPEN,
    OUTSIDE,
    PASS_SECONDS,
    PROTOCOLS,
    TRANSPORTS,
    UNOPENED,
    assert_all_dropped,
    assert_all_pass,
    ports_of,
    reaches,
    switch_br_netfilter,
    to_containers,
)
from tests.support.beside_docker import BACKENDS, DOCKER_PORT, IPV6_TOO, LACKING, USER_NETWORKS, Side, side

pytestmark = pytest.mark.skipif(LACKING != "", reason=LACKING)


@pytest.fixture(scope="module", params=BACKENDS)
def settled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """For packets: dockerd came after cnmd, containers of both run, and both families are open."""
    with ExitStack() as stack:
        place = tmp_path_factory.mktemp(f"beside-{request.param}")
        made = stack.enter_context(side(place, request.param, networks=("nat", "nat-2", "routed")))
        dockerd = stack.enter_context(made.docker_runs(*IPV6_TOO))
        made.iptables("-N", "DOCKER-USER", version=6)
        made.iptables("-I", "FORWARD", "-j", "DOCKER-USER", version=6)
        made.run_containers(dockerd)
        for version in (4, 6):
            assert made.opens("named", version=version)
        yield made


DOCKERS = pytest.mark.parametrize("network", ["bridge", *USER_NETWORKS])


@FAMILIES
@PROTOCOLS
def test_a_sandbox_reaches_the_outside(settled: Side, protocol: str, version: int) -> None:
    for network in ("nat", "nat-2"):
        box = settled.lab.box(network, "b")
        assert reaches(box, protocol, OUTSIDE[version], OPEN, PASS_SECONDS)


@FAMILIES
@TRANSPORTS
def test_published_ports_are_reached_from_outside(settled: Side, protocol: str, version: int) -> None:
    outside, lab = settled.lab.outside, settled.lab
    routed = lab.address("routed", "a", version)

    assert reaches(outside, protocol, HOST[version], 8001, PASS_SECONDS)
    assert reaches(outside, protocol, routed, OPEN, PASS_SECONDS)


@FAMILIES
@PROTOCOLS
def test_what_is_not_published_stays_dropped(settled: Side, protocol: str, version: int) -> None:
    lab = settled.lab

    assert_all_dropped(lab, to_containers(lab, lab.outside, ["nat", "nat-2"], protocol, version))
    if protocol != "icmp":
        address = lab.address("routed", "a", version)
        assert not reaches(lab.outside, protocol, address, UNOPENED)


@DOCKERS
@FAMILIES
@PROTOCOLS
def test_containers_of_docker_are_not_reached(
    settled: Side, protocol: str, version: int, network: str
) -> None:
    address, lab = settled.addresses[network][version], settled.lab
    probes = {
        f"{box.name} to {network} port {port}": partial(reaches, box, protocol, address, port)
        for box in (lab.box("nat", "a"), lab.box("routed", "a"))
        for port in ports_of(protocol)
    }

    assert_all_dropped(lab, probes)


@DOCKERS
@FAMILIES
@PROTOCOLS
def test_containers_of_docker_do_not_reach_a_sandbox(
    settled: Side, protocol: str, version: int, network: str
) -> None:
    container = settled.containers[network]

    probes = to_containers(settled.lab, container, ["nat", "nat-2"], protocol, version)

    assert_all_dropped(settled.lab, probes)


@DOCKERS
@FAMILIES
def test_containers_of_docker_reach_published_ports(settled: Side, version: int, network: str) -> None:
    container = settled.containers[network]

    assert reaches(container, "tcp", HOST[version], 8001, PASS_SECONDS)


def test_a_sandbox_reaches_what_docker_publishes(settled: Side) -> None:
    sources = (settled.lab.box("nat", "a"), settled.lab.outside)

    assert_all_pass(
        {each.name: partial(reaches, each, "tcp", HOST[4], DOCKER_PORT, PASS_SECONDS) for each in sources}
    )


@DOCKERS
def test_containers_of_docker_keep_their_way_out(settled: Side, network: str) -> None:
    assert reaches(settled.containers[network], "tcp", OUTSIDE[4], OPEN, PASS_SECONDS)


@FAMILIES
def test_siblings_reach_each_other_under_br_netfilter(settled: Side, version: int) -> None:
    lab = settled.lab
    switch_br_netfilter(lab.host, True)
    try:
        address = lab.address("nat", "b", version)
        assert reaches(lab.box("nat", "a"), "tcp", address, UNOPENED, PASS_SECONDS)
    finally:
        switch_br_netfilter(lab.host, False)


def test_status_shows_docker_and_that_it_is_open(settled: Side) -> None:
    told = settled.lab.daemon.cnmctl("status")

    assert settled.state() == "open"
    assert f"docker open: DOCKER-USER of iptables-{settled.backend}" in told.stdout
    assert "DOCKER-USER" not in told.stderr
