"""Endpoints through the controller: addresses, names, joining and leaving, gateways, ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.endpoint import Endpoint, EndpointRequest, EndpointState, PortMapping, Protocol
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, KernelError, NotFound, Unavailable
from cnm.kernel.state import HOST, Address, Link, LinkKind, Route
from cnm.network import IpamConfig
from cnm.sandbox import Sandbox
from tests.unit.verbs_stage import Stage, free_port, is_held, refused, tcp

SMALL = IpamConfig(subnet="10.1.0.0/29", gateway="10.1.0.1")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.network("web", ipam_config=(SMALL,))
    yield made
    made.end()


@pytest.fixture
def box(stage: Stage) -> Sandbox:
    return stage.sandbox("box")


def connect(stage: Stage, network: str = "web", box: str = "box", **request: object) -> Endpoint:
    return stage.controller.connect(network, box, EndpointRequest(**request))  # type: ignore[arg-type]


def default_routes(stage: Stage, box: Sandbox) -> dict[str, tuple[str, str]]:
    """(interface, next hop) by destination."""
    records = stage.kernel.spaces[box.netns].records
    return {r.destination: (r.link, r.via) for r in records if isinstance(r, Route)}


# Create and delete


def test_an_endpoint_has_addresses_and_no_interface_until_it_joins(stage: Stage) -> None:
    before = stage.links().copy()

    endpoint = stage.controller.create_endpoint("web", EndpointRequest(name="e"))

    assert (endpoint.state, endpoint.ipv4) == (EndpointState.CREATED, "10.1.0.2/29")
    assert endpoint.mac == "02:42:0a:01:00:02"
    assert stage.links() == before
    assert stage.controller.endpoint("web/e") == endpoint


def test_an_endpoint_without_a_name_is_called_by_its_id(stage: Stage) -> None:
    endpoint = stage.controller.create_endpoint("web", EndpointRequest())

    assert endpoint.name == f"ep-{endpoint.id[:12]}"


def test_an_endpoint_has_what_was_asked_for(stage: Stage, box: Sandbox) -> None:
    joined = connect(
        stage, ipv4="10.1.0.5", mac="02-AA-00-00-00-09", ifname="up0", name="me", aliases=("www",)
    )

    assert (joined.ipv4, joined.mac, joined.ifname, joined.name) == (
        "10.1.0.5/29",
        "02:aa:00:00:00:09",
        "up0",
        "me",
    )
    assert stage.links(box.netns)["up0"].mac == "02:aa:00:00:00:09"
    assert joined.aliases == ("www",)


@pytest.mark.parametrize(
    ("request_", "error", "named"),
    [
        (EndpointRequest(ipv4="10.2.0.1"), InvalidParameter, "10.2.0.1"),
        (EndpointRequest(ipv4="10.1.0.1"), Forbidden, "10.1.0.1"),
        (EndpointRequest(ipv6="fd00::1"), InvalidParameter, "fd00::1"),
        (EndpointRequest(mac="02:42"), InvalidParameter, "02:42"),
        (EndpointRequest(mac="01:00:5e:00:00:01"), InvalidParameter, "multicast"),
        (EndpointRequest(mac="02:42:0a:01:00:02"), Conflict, "endpoint taken"),
        (EndpointRequest(name="taken"), Forbidden, "taken"),
        (EndpointRequest(name="a/b"), InvalidParameter, "'/'"),
        (EndpointRequest(ifname="a/b"), InvalidParameter, "a/b"),
        (EndpointRequest(ifname="x" * 16), InvalidParameter, "15 bytes"),
        (EndpointRequest(ifname="lo"), InvalidParameter, "lo"),
        (EndpointRequest(options={"no.such": "1"}), InvalidParameter, "no.such"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_and_its_address_is_free(
    stage: Stage, box: Sandbox, request_: EndpointRequest, error: type[CnmError], named: str
) -> None:
    stage.controller.create_endpoint("web", EndpointRequest(name="taken"))
    before = stage.picture()

    assert named in refused(lambda: stage.controller.connect("web", "box", request_), error)

    assert stage.picture() == before
    assert connect(stage).ipv4 == "10.1.0.3/29"


def test_an_exhausted_pool_is_said_and_an_address_given_back_is_given_again(stage: Stage) -> None:
    for number in range(5):
        stage.controller.create_endpoint("web", EndpointRequest(name=f"e{number}"))

    message = refused(lambda: stage.controller.create_endpoint("web", EndpointRequest(name="x")), Unavailable)
    stage.controller.delete_endpoint("web/e2")

    assert "web" in message
    assert stage.controller.create_endpoint("web", EndpointRequest(name="x")).ipv4 == "10.1.0.4/29"


# Join and leave


def test_a_joined_endpoint_is_a_pair_of_interfaces_with_its_address(stage: Stage, box: Sandbox) -> None:
    joined = connect(stage)

    port = stage.links()[f"cv{joined.id[:12]}"]
    inside = stage.links(box.netns)["eth0"]
    assert (joined.state, joined.ifname, joined.sandbox_id) == (EndpointState.JOINED, "eth0", box.id)
    assert port.master == f"cnm-{joined.network_id[:11]}"
    assert (inside.mac, inside.mtu, inside.up) == (joined.mac, 1500, True)
    assert Address("eth0", "10.1.0.2/29") in stage.kernel.spaces[box.netns].records
    assert default_routes(stage, box) == {"0.0.0.0/0": ("eth0", "10.1.0.1")}
    assert stage.controller.doctor() == []


def test_an_endpoint_that_leaves_keeps_its_address_and_joins_elsewhere(stage: Stage, box: Sandbox) -> None:
    other = stage.sandbox("other")
    connect(stage, ifname="up0")

    stage.controller.leave("web/box")
    left = stage.controller.endpoint("web/box")
    joined = stage.controller.join("web/box", "other")

    assert (left.state, left.sandbox_id, left.ipv4) == (EndpointState.CREATED, "", "10.1.0.2/29")
    assert set(stage.links(box.netns)) == {"lo"}
    assert (joined.ipv4, joined.mac, joined.ifname) == (left.ipv4, left.mac, "up0")
    assert "up0" in stage.links(other.netns)


def test_interfaces_take_the_lowest_free_number(stage: Stage, box: Sandbox) -> None:
    for name in ("a", "b", "c"):
        stage.network(name)
    names = [connect(stage, name).ifname for name in ("web", "a", "b")]

    stage.controller.disconnect("a", "box")

    assert names == ["eth0", "eth1", "eth2"]
    assert connect(stage, "c").ifname == "eth1"


def test_interfaces_of_a_given_namespace_are_not_in_the_way(stage: Stage) -> None:
    stage.kernel.create_namespace("/run/netns/mine")
    stage.links("/run/netns/mine")["eth0"] = Link("eth0", LinkKind.OTHER)
    stage.sandbox("box", "/run/netns/mine")

    assert connect(stage).ifname == "eth1"


def test_an_interface_name_that_is_taken_in_the_sandbox_is_refused(stage: Stage, box: Sandbox) -> None:
    stage.network("db")
    connect(stage, ifname="up0")
    before = stage.picture()

    assert "up0" in refused(lambda: connect(stage, "db", ifname="up0"), Conflict)

    assert stage.picture() == before


def test_a_default_route_that_the_namespace_has_already_is_refused_and_stays(stage: Stage) -> None:
    stage.kernel.create_namespace("/run/netns/mine")
    theirs = Route("0.0.0.0/0", "lo", "192.0.2.1")
    stage.kernel.spaces["/run/netns/mine"].records.add(theirs)
    stage.sandbox("box", "/run/netns/mine")
    before = stage.picture()

    assert "file exists" in refused(lambda: connect(stage), Conflict)

    assert stage.picture() == before
    assert theirs in stage.kernel.spaces["/run/netns/mine"].records


def test_a_kernel_that_makes_no_interface_leaves_all_as_it_was(stage: Stage, box: Sandbox) -> None:
    endpoint = stage.controller.create_endpoint(
        "web", EndpointRequest(name="e", ports=(tcp(80, free_port()),))
    )
    before = stage.picture()
    stage.kernel.fail_on = f"cv{endpoint.id[:12]}"

    assert "cannot allocate memory" in refused(lambda: stage.controller.join("web/e", "box"), KernelError)

    assert stage.picture() == before
    assert not is_held(endpoint.port_requests[0].host_port)


@pytest.mark.parametrize(
    ("verb", "error", "named"),
    [
        (lambda c: c.join("web/e", "box"), Forbidden, "joined to box already: leave it first"),
        (lambda c: c.join("web/e", "other"), Forbidden, "joined to box already: leave it first"),
        (
            lambda c: c.connect("web", "box", EndpointRequest(name="x")),
            Forbidden,
            "connected to network web already",
        ),
        (lambda c: c.delete_endpoint("web/e"), Conflict, "leave it first, or use force"),
        (lambda c: c.leave("web/idle"), Conflict, "in no sandbox"),
        (lambda c: c.disconnect("web", "other"), NotFound, "sandbox other is not connected to network web"),
        (lambda c: c.join("web/missing", "box"), NotFound, "missing"),
        (lambda c: c.join("web/idle", "missing"), NotFound, "missing"),
        (lambda c: c.join("missing/idle", "box"), NotFound, "missing"),
        (lambda c: c.endpoint("web/"), NotFound, "web"),
        (lambda c: c.endpoint("idle"), NotFound, "endpoint idle not found: name it NETWORK/NAME"),
        (lambda c: c.unpublish("web/e", [tcp(80)]), NotFound, "80/tcp"),
    ],
)
def test_an_illegal_verb_is_refused_and_changes_nothing(
    stage: Stage, box: Sandbox, verb: object, error: type[CnmError], named: str
) -> None:
    stage.sandbox("other")
    for name in ("e", "idle"):
        stage.controller.create_endpoint("web", EndpointRequest(name=name))
    stage.controller.join("web/e", "box")
    before = stage.picture()

    assert named in refused(lambda: verb(stage.controller), error)  # type: ignore[operator]

    assert stage.picture() == before


def test_disconnecting_what_is_not_connected_is_no_error_with_force(stage: Stage, box: Sandbox) -> None:
    before = stage.picture()

    stage.controller.disconnect("web", "box", force=True)

    assert stage.picture() == before


def test_deleting_a_joined_endpoint_by_force_leaves_nothing_of_it(stage: Stage, box: Sandbox) -> None:
    before = stage.picture()
    connect(stage)

    stage.controller.delete_endpoint("web/box", force=True)

    assert {**stage.picture(), "events": []} == {**before, "events": []}


def test_an_endpoint_of_a_vanished_namespace_can_leave(stage: Stage) -> None:
    stage.kernel.create_namespace("/run/netns/mine")
    stage.sandbox("box", "/run/netns/mine")
    connect(stage)
    stage.kernel.remove_namespace("/run/netns/mine")

    stage.controller.disconnect("web", "box")
    stage.controller.delete_sandbox("box")

    assert stage.controller.doctor() == []


# Gateways


def test_the_network_of_the_lowest_name_gives_the_default_route(stage: Stage, box: Sandbox) -> None:
    stage.network("db")
    web = connect(stage, "web")
    first = default_routes(stage, box)
    db = connect(stage, "db")

    assert first == {"0.0.0.0/0": ("eth0", "10.1.0.1")}
    assert default_routes(stage, box) == {"0.0.0.0/0": ("eth1", "172.18.0.1")}
    assert stage.controller.gateway_endpoint(box.id) == db.id
    stage.controller.disconnect("db", "box")
    assert default_routes(stage, box) == first
    assert stage.controller.gateway_endpoint(box.id) == web.id


def test_a_higher_gateway_priority_wins(stage: Stage, box: Sandbox) -> None:
    stage.network("db")
    connect(stage, "db")
    connect(stage, "web", gw_priority=1)

    assert default_routes(stage, box)["0.0.0.0/0"] == ("eth1", "10.1.0.1")


def test_an_internal_network_gives_no_default_route(stage: Stage, box: Sandbox) -> None:
    stage.network("inside", internal=True)
    connect(stage, "inside", gw_priority=9)

    assert default_routes(stage, box) == {}
    assert stage.controller.gateway_endpoint(box.id) == ""
    connect(stage, "web")
    assert default_routes(stage, box) == {"0.0.0.0/0": ("eth1", "10.1.0.1")}


def test_each_family_has_its_own_default_route(stage: Stage, box: Sandbox) -> None:
    stage.network("v6", enable_ipv4=False, enable_ipv6=True)
    connect(stage, "v6")
    connect(stage, "web")

    gateway = stage.controller.network("v6").pools[0].gateway
    assert default_routes(stage, box) == {"0.0.0.0/0": ("eth1", "10.1.0.1"), "::/0": ("eth0", gateway)}
    assert stage.controller.doctor() == []


# Ports


def test_a_published_port_is_held_on_the_host_while_the_endpoint_is_joined(
    stage: Stage, box: Sandbox
) -> None:
    port = free_port()
    stage.controller.create_endpoint("web", EndpointRequest(name="e", ports=(tcp(80, port),)))
    assert not is_held(port)

    joined = stage.controller.join("web/e", "box")
    assert joined.ports == (PortMapping(protocol=Protocol.TCP, container_port=80, host_port=port),)
    assert is_held(port)
    assert stage.elements("publish_any4") == {("tcp", port)}

    stage.controller.leave("web/e")
    assert not is_held(port)
    assert stage.elements("publish_any4") == set()
    assert stage.controller.join("web/e", "box").ports == joined.ports


def test_any_free_port_is_found_and_kept_over_a_restart(stage: Stage, box: Sandbox) -> None:
    (mapping,) = connect(stage, ports=(tcp(80),)).ports

    stage.restart()

    assert mapping.host_port
    assert stage.controller.endpoint("web/box").ports == (mapping,)
    assert is_held(mapping.host_port)


def test_ports_are_published_and_taken_back_on_a_live_endpoint(stage: Stage, box: Sandbox) -> None:
    first, second = free_port(), free_port()
    connect(stage, ports=(tcp(80, first),))

    (added,) = stage.controller.publish("web/box", [tcp(443, second)])
    stage.controller.unpublish("web/box", [tcp(80)])

    assert (added.container_port, added.host_port) == (443, second)
    assert stage.controller.endpoint("web/box").ports == (added,)
    assert (is_held(first), is_held(second)) == (False, True)
    assert stage.elements("open4") == {("10.1.0.2", "tcp", 443)}
    assert [action for kind, action in stage.events() if kind == "endpoint"] == ["publish", "unpublish"]


def test_taking_back_one_of_two_host_ports_leaves_the_other_open(stage: Stage, box: Sandbox) -> None:
    first, second = free_port(), free_port()
    connect(stage, ports=(tcp(80, first),))
    stage.controller.publish("web/box", [tcp(80, second)])

    stage.controller.unpublish("web/box", [tcp(80, second)])

    assert (is_held(first), is_held(second)) == (True, False)
    assert stage.elements("open4") == {("10.1.0.2", "tcp", 80)}


def test_a_port_that_any_program_holds_is_allocated_already(stage: Stage, box: Sandbox) -> None:
    stage.sandbox("other")
    port = free_port()
    connect(stage, ports=(tcp(80, port),))
    before = stage.picture()

    message = refused(lambda: connect(stage, "web", "other", ports=(tcp(81, port),)), Conflict)

    assert re.search(rf"\b{port}\b.*port is already allocated", message)
    assert stage.picture() == before


def test_flows_to_a_freshly_published_udp_port_are_forgotten(stage: Stage, box: Sandbox) -> None:
    port = free_port()
    connect(stage, ports=(tcp(53, port, protocol=Protocol.UDP),))

    assert f"udp:{port}" in stage.kernel.flushed


@pytest.mark.parametrize("network", ["inside", "none"])
def test_ports_are_refused_where_none_can_be_published(stage: Stage, box: Sandbox, network: str) -> None:
    stage.network("inside", internal=True)
    before = stage.picture()

    message = refused(lambda: connect(stage, network, ports=(tcp(80),)), InvalidParameter)

    assert f"cannot be published on network {network}" in message
    assert stage.picture() == before


def test_a_port_that_the_relay_serves_is_said_and_handed_over(stage: Stage, box: Sandbox) -> None:
    port = free_port()
    joined = connect(stage, ports=(tcp(80, port),))
    stage.relaying.drop([])  # nothing to wait for yet
    stage.controller.repair()

    assert "IPv6" in stage.controller.relayed(joined, joined.ports[0])
    stage.controller.disconnect("web", "box")
    assert stage.relays.served == {}


def test_the_host_s_namespace_has_no_part_in_a_sandbox(stage: Stage, box: Sandbox) -> None:
    host_records = [r for r in stage.kernel.spaces[HOST].records if isinstance(r, Address)]

    connect(stage)

    assert [r for r in stage.kernel.spaces[HOST].records if isinstance(r, Address)] == host_records
