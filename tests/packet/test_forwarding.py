"""The host routes for its containers and, unless it did before, for nobody else; its global switches are its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Topology
from tests.packet.lab import (
    FAMILIES,
    FAR,
    NETWORKS,
    OUTSIDE,
    PASS_SECONDS,
    PROTOCOLS,
    Lab,
    Probe,
    assert_all_dropped,
    assert_all_pass,
    ports_of,
    reaches,
    running_lab,
    world,
)

GLOBAL = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


@pytest.fixture(scope="module")
def br_netfilter() -> bool:
    return False


@pytest.fixture(
    scope="module",
    params=[(0, 0), (1, 1), (1, 0), (0, 1)],
    ids=["no router before", "router before", "IPv4 router before", "IPv6 router before"],
)
def routed_before(request: pytest.FixtureRequest) -> dict[int, bool]:
    return {4: bool(request.param[0]), 6: bool(request.param[1])}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, routed_before: dict[int, bool]) -> Iterator[Lab]:
    description = two_uplinks()
    description["hosts"]["host"]["sysctls"] = {GLOBAL[v]: int(on) for v, on in routed_before.items()}
    with (
        Topology(description) as topology,
        running_lab(
            topology,
            tmp_path_factory.mktemp("cnmd"),
            br_netfilter=False,
            networks=("nat", "routed", "internal"),
        ) as running,
    ):
        yield running


def two_uplinks() -> dict[str, Any]:
    """Machines on either side would use the host as their router."""
    description = world()
    description["hosts"]["outside"]["uplink"] = "host"
    return description


def across(lab: Lab, protocol: str, version: int, seconds: float = 0.25) -> dict[str, Probe]:
    """Between the host's two uplinks, both ways."""
    return {
        f"{source.name} to {address} port {port}": partial(reaches, source, protocol, address, port, seconds)
        for source, address in ((lab.outside, FAR[version]), (lab.far, OUTSIDE[version]))
        for port in ports_of(protocol)
    }


@PROTOCOLS
@FAMILIES
def test_the_host_routes_for_others_only_if_it_did_before(
    lab: Lab, routed_before: dict[int, bool], version: int, protocol: str
) -> None:
    if routed_before[version]:
        assert_all_pass(across(lab, protocol, version, PASS_SECONDS))
    else:
        assert_all_dropped(lab, across(lab, protocol, version))


@PROTOCOLS
@FAMILIES
def test_containers_reach_the_world_by_every_uplink(lab: Lab, version: int, protocol: str) -> None:
    assert_all_pass(
        {
            f"{name} to {address} port {port}": partial(
                reaches, lab.box(name, "b"), protocol, address, port, PASS_SECONDS
            )
            for name in ("nat", "routed")
            for address in (OUTSIDE[version], FAR[version])
            for port in ports_of(protocol)
        }
    )


@PROTOCOLS
@FAMILIES
def test_containers_of_an_internal_network_stay_inside(lab: Lab, version: int, protocol: str) -> None:
    assert_all_dropped(
        lab,
        {
            f"to {address} port {port}": partial(reaches, lab.box("internal", "b"), protocol, address, port)
            for address in (OUTSIDE[version], FAR[version], NETWORKS["nat"].gateway(version))
            for port in ports_of(protocol)
        },
    )


@FAMILIES
def test_the_switch_for_all_interfaces_is_not_written(
    lab: Lab, routed_before: dict[int, bool], version: int
) -> None:
    assert lab.host.sysctl(GLOBAL[version]) == str(int(routed_before[version]))


def test_an_interface_that_comes_later_carries_replies_too(lab: Lab) -> None:
    """A link made while cnmd runs: the watcher throws its switch."""
    lab.host.run(["ip", "link", "add", "up3", "type", "veth", "peer", "name", "eth1"])
    lab.host.run(["ip", "link", "set", "eth1", "netns", str(lab.far.path)])
    lab.host.run(["ip", "addr", "add", "203.0.113.1/24", "dev", "up3"])
    lab.host.run(["ip", "link", "set", "up3", "up"])
    lab.far.run(["ip", "addr", "add", "203.0.113.2/24", "dev", "eth1"])
    lab.far.run(["ip", "link", "set", "eth1", "up"])
    lab.daemon.ask("POST", "/cnm/v1/repair")

    assert reaches(lab.box("nat", "b"), "tcp", "203.0.113.2", 80, PASS_SECONDS)


@pytest.mark.parametrize(
    ("config", "others_pass", "containers_pass"),
    [("ip-forward-no-drop = true", True, True), ("ip-forward = false", False, False)],
    ids=["no drop", "no forwarding"],
)
def test_settings_leave_out_the_drop_or_the_forwarding(
    tmp_path: Path, config: str, others_pass: bool, containers_pass: bool
) -> None:
    with (
        Topology(two_uplinks()) as topology,
        running_lab(topology, tmp_path, br_netfilter=False, networks=("nat",), config=config) as lab,
    ):
        for version in (4, 6):
            seconds = PASS_SECONDS if others_pass else 0.25
            assert reaches(lab.far, "tcp", OUTSIDE[version], 80, seconds) is others_pass
            seconds = PASS_SECONDS if containers_pass else 0.25
            assert reaches(lab.box("nat", "b"), "tcp", OUTSIDE[version], 80, seconds) is containers_pass
