"""Macvlan and ipvlan networks through the controller: parents that are shared, routes, ports, crashes, repair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.endpoint import EndpointRequest
from cnm.errors import Forbidden, InvalidParameter, KernelError, NotBuilt
from cnm.kernel.state import HOST, Link, LinkKind, Problem, Route
from cnm.network import IpamConfig, Network
from tests.unit.verbs_stage import UPLINK, Stage, refused, tcp

VLAN = f"{UPLINK.name}.10"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


def on(stage: Stage, parent: str = UPLINK.name, name: str = "lan", **request: Any) -> Network:
    return stage.network(name, **({"driver": "macvlan", "options": {"parent": parent}} | request))


def defaults(stage: Stage, namespace: str) -> set[tuple[str, str]]:
    """(destination, next hop) of the default routes."""
    records = stage.kernel.spaces[namespace].records
    return {(r.destination, r.via) for r in records if isinstance(r, Route)}


def connect(stage: Stage, network: str, sandbox: str, **request: Any) -> Any:
    return stage.controller.connect(network, sandbox, EndpointRequest(**request))


# Endpoints


def test_an_endpoint_comes_and_goes_whole(stage: Stage) -> None:
    on(stage, enable_ipv6=True)
    box = stage.sandbox()
    before = stage.picture()

    endpoint = connect(stage, "lan", "box")
    link = stage.links(box.netns)["eth0"]
    stage.controller.disconnect("lan", "box")

    assert (link.kind, link.mac, link.parent) == (LinkKind.MACVLAN, endpoint.mac, UPLINK.name)
    assert {**stage.picture(), "events": []} == {**before, "events": []}


def test_the_default_route_is_bound_to_the_interface_and_has_no_gateway_to_show(stage: Stage) -> None:
    on(stage, enable_ipv6=True)
    box = stage.sandbox()
    endpoint = connect(stage, "lan", "box")

    assert defaults(stage, box.netns) == {("0.0.0.0/0", ""), ("::/0", "")}
    assert stage.controller.gateways(endpoint) == ("", "")
    assert stage.controller.gateway_endpoint(box.id) == endpoint.id


def test_a_given_gateway_is_the_next_hop(stage: Stage) -> None:
    on(stage, ipam_config=(IpamConfig(subnet="10.1.0.0/24", gateway="10.1.0.9"),))
    box = stage.sandbox()
    endpoint = connect(stage, "lan", "box")

    assert defaults(stage, box.netns) == {("0.0.0.0/0", "10.1.0.9")}
    assert stage.controller.gateways(endpoint) == ("10.1.0.9", "")


@pytest.mark.parametrize("order", [("web", "lan"), ("lan", "web")])
def test_the_default_route_is_the_same_in_every_order_of_connecting(
    stage: Stage, order: tuple[str, ...]
) -> None:
    """A bridge of one family and an ipvlan of both in layer 3: IPv4 goes by the one that has both."""
    stage.network("web", ipam_config=(IpamConfig(subnet="10.1.0.0/24"),))
    on(
        stage,
        driver="ipvlan",
        enable_ipv6=True,
        options={"parent": UPLINK.name, "ipvlan_mode": "l3"},
        ipam_config=(IpamConfig(subnet="10.2.0.0/24"),),
    )
    box = stage.sandbox()
    for network in order:
        connect(stage, network, "box")

    both = defaults(stage, box.netns)
    stage.controller.disconnect("lan", "box")

    assert both == {("0.0.0.0/0", ""), ("::/0", "")}
    assert defaults(stage, box.netns) == {("0.0.0.0/0", "10.1.0.1")}


def test_an_ipvlan_endpoint_has_no_mac_of_its_own(stage: Stage) -> None:
    on(stage, driver="ipvlan")
    stage.sandbox()

    assert connect(stage, "lan", "box").mac == ""
    stage.sandbox("other")
    assert "custom mac address" in refused(
        lambda: connect(stage, "lan", "other", mac="02:00:00:00:00:07"), InvalidParameter
    )


def test_ports_are_refused(stage: Stage) -> None:
    on(stage)
    stage.sandbox()

    assert refused(lambda: connect(stage, "lan", "box", ports=(tcp(80, 8080),)), InvalidParameter) == (
        "ports cannot be published on network lan: driver macvlan has none"
    )


# Parents


def test_the_host_is_not_made_to_forward_for_it(stage: Stage) -> None:
    before = dict(stage.kernel.sysctls)

    on(stage, enable_ipv6=True)

    assert stage.kernel.sysctls == before


def test_a_vlan_is_made_with_its_first_network_and_goes_with_its_last(stage: Stage) -> None:
    before = set(stage.links())
    on(stage, VLAN, "one")
    on(stage, VLAN, "two")

    stage.controller.delete_network("one")
    with_one_left = set(stage.links())
    stage.controller.delete_network("two")

    assert with_one_left == before | {VLAN}
    assert set(stage.links()) == before


def test_a_vlan_of_others_is_used_and_stays(stage: Stage) -> None:
    theirs = Link(VLAN, LinkKind.VLAN, mtu=1400)
    stage.links()[VLAN] = theirs

    network = on(stage, VLAN)
    stage.controller.delete_network("lan")

    assert network.mtu == 1400
    assert stage.links()[VLAN] == theirs


@pytest.mark.parametrize("after", [False, True])
def test_a_network_that_fails_leaves_the_vlan_to_those_that_use_it(stage: Stage, after: bool) -> None:
    on(stage, VLAN, "one")
    before = stage.picture()
    stage.faults.reset()
    on(stage, VLAN, "two")
    calls = list(stage.faults.calls)
    stage.controller.delete_network("two")
    for step, call in enumerate(calls):
        if after and call.startswith("store."):
            continue  # a store that says no has written nothing
        stage.faults.reset(at=step, after=after)
        with pytest.raises(KernelError):
            on(stage, VLAN, "two")
        stage.faults.reset()

        assert {**stage.picture(), "events": []} == {**before, "events": []}, step


def test_a_shared_vlan_is_no_finding_and_comes_back_once_it_is_gone(stage: Stage) -> None:
    on(stage, VLAN, "one")
    on(stage, VLAN, "two")
    box = stage.sandbox()
    connect(stage, "two", "box")
    clean = stage.controller.doctor()
    stage.kernel.drop_link(HOST, stage.links()[VLAN])

    found = stage.controller.repair()

    assert clean == []
    assert {(f.problem, getattr(f.wanted, "name", "")) for f in found if isinstance(f.wanted, Link)} == {
        (Problem.MISSING, VLAN),
        (Problem.MISSING, "eth0"),
    }
    assert stage.controller.doctor() == []
    assert "eth0" in stage.links(box.netns)


def test_a_network_without_a_parent_is_internal_and_takes_its_dummy_along(stage: Stage) -> None:
    before = set(stage.links())
    network = on(stage, "", options={})
    made = set(stage.links()) - before
    stage.controller.delete_network("lan")

    assert network.internal
    assert made == {f"dm-{network.id[:12]}"}
    assert set(stage.links()) == before


def test_macvlan_and_ipvlan_are_told_of_each_other(stage: Stage) -> None:
    on(stage)

    message = refused(lambda: on(stage, name="other", driver="ipvlan"), Forbidden)

    assert "network lan uses parent interface uplink0 already with driver macvlan" in message


def test_a_bridge_is_not_told_of_them(stage: Stage) -> None:
    on(stage, ipam_config=(IpamConfig(subnet="10.1.0.0/24", ip_range="10.1.0.0/25"),))

    web = stage.network("web", ipam_config=(IpamConfig(subnet="10.1.0.0/24", ip_range="10.1.0.128/25"),))

    assert web.pools[0].subnet == "10.1.0.0/24"


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        (LinkKind.VLAN, {"options": {"parent": VLAN}}),
        (LinkKind.DUMMY, {"options": {}}),
    ],
)
def test_a_network_whose_kind_the_kernel_lacks_is_not_built(
    stage: Stage, kind: LinkKind, request_: dict[str, Any]
) -> None:
    stage.kernel.lacking = frozenset({kind})
    before = stage.picture()

    assert f"this kernel has no {kind.value} links" in refused(lambda: on(stage, **request_), NotBuilt)

    assert stage.picture() == before


def test_an_endpoint_whose_kind_the_kernel_lacks_is_not_built(stage: Stage) -> None:
    stage.kernel.lacking = frozenset({LinkKind.IPVLAN})
    on(stage, driver="ipvlan")
    stage.sandbox()
    before = stage.picture()

    assert "this kernel has no ipvlan links" in refused(lambda: connect(stage, "lan", "box"), NotBuilt)

    assert stage.picture() == before


# Crashes and repair


def test_all_is_as_it_was_after_a_restart(stage: Stage) -> None:
    on(stage, VLAN, enable_ipv6=True)
    stage.sandbox()
    connect(stage, "lan", "box")
    before = stage.picture()

    stage.restart()

    assert {**stage.picture(), "events": []} == {**before, "events": []}
    assert stage.controller.doctor() == []


def test_a_namespace_that_was_lost_gets_its_link_again(stage: Stage) -> None:
    on(stage)
    box = stage.sandbox()
    connect(stage, "lan", "box")
    stage.kernel.remove_namespace(box.netns)

    stage.restart()

    assert stage.links(box.netns)["eth0"].kind is LinkKind.MACVLAN
    assert stage.controller.doctor() == []


def test_a_parent_that_is_gone_keeps_nothing_else_from_being_mended(stage: Stage) -> None:
    stage.links()["usb0"] = Link("usb0", LinkKind.OTHER)
    on(stage, "usb0", "loose")
    on(stage, UPLINK.name, "firm")
    for name in ("one", "two"):
        stage.sandbox(name)
    connect(stage, "loose", "one")
    connect(stage, "firm", "two")
    stage.kernel.drop_link(HOST, stage.links()["usb0"])
    two = stage.controller.sandbox("two").netns
    stage.kernel.drop_link(two, stage.links(two)["eth0"])

    message = refused(stage.controller.repair, KernelError)
    left = {f.namespace for f in stage.controller.doctor()}
    stage.controller.disconnect("loose", "one")

    assert "its parent usb0 does not exist on the host" in message
    assert left == {stage.controller.sandbox("one").netns}
    assert stage.controller.doctor() == []
