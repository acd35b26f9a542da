"""Networks and sandboxes through the controller: what each verb does, refuses and tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm import wanted
from cnm.endpoint import EndpointRequest
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotBuilt, NotFound, Unavailable
from cnm.kernel.state import HOST, Address, LinkKind
from cnm.network import IpamConfig, NetworkState
from cnm.sandbox import SandboxKind, SandboxState
from tests.unit.verbs_stage import Stage, refused

SUBNET = IpamConfig(subnet="10.1.0.0/24")
ISOLATED = {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


# Networks


def test_bridges_are_told_to_others_and_names_only_where_names_are_known(stage: Stage) -> None:
    web = stage.network("web")
    stage.sandbox("box")
    stage.controller.connect("bridge", "box", EndpointRequest())
    default = stage.controller.network("bridge")
    bridges = {network.id: f"cnm-{network.id[:11]}" for network in (web, default)}

    assert wanted.bridges(stage.resources) == set(bridges.values())
    assert wanted.named_bridges(stage.resources) == {bridges[web.id]: "web"}


def test_a_network_is_a_bridge_with_its_gateway(stage: Stage) -> None:
    network = stage.network("web", ipam_config=(IpamConfig(subnet="10.1.0.0/24"),))

    bridge = stage.links()[f"cnm-{network.id[:11]}"]
    (address,) = stage.kernel.spaces[HOST].records
    assert (bridge.kind, bridge.mtu, bridge.up) == (LinkKind.BRIDGE, 1500, True)
    assert address == Address(bridge.name, "10.1.0.1/24")
    assert network.state is NetworkState.ACTIVE
    assert stage.controller.network("web") == network


def test_a_deleted_network_leaves_nothing_behind(stage: Stage) -> None:
    before = stage.picture()
    stage.network("web", enable_ipv6=True)

    stage.controller.delete_network("web")

    assert {**stage.picture(), "events": []} == {**before, "events": []}
    assert stage.network("again").pools[0].subnet == "172.18.0.0/16"


def test_a_network_is_found_by_id_name_and_beginning_of_its_id(stage: Stage) -> None:
    network = stage.network("web")

    assert {stage.controller.network(ref).id for ref in (network.id, "web", network.id[:12])} == {network.id}


def test_a_name_goes_before_the_beginning_of_an_id(stage: Stage) -> None:
    other = stage.network("web")
    named = stage.network(other.id[:12])

    assert stage.controller.network(other.id[:12]).id == named.id


def test_a_beginning_that_several_ids_share_is_ambiguous(stage: Stage) -> None:
    for number in range(17):
        stage.network(f"n{number}", internal=True, options=ISOLATED)
    digits = [network.id[0] for network in stage.controller.networks()]
    shared = next(digit for digit in digits if digits.count(digit) > 1)

    assert "ambiguous" in refused(lambda: stage.controller.network(shared), InvalidParameter)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        *[(bad, InvalidParameter) for bad in ("", " web", "a/b", "\x1b[31m", "x" * 256)],
        *[(predefined, Forbidden) for predefined in ("bridge", "host", "none", "default")],
        ("taken", Conflict),
    ],
)  # fmt: skip
def test_a_network_of_a_bad_or_taken_name_is_refused(stage: Stage, name: str, error: type[CnmError]) -> None:
    stage.network("taken")
    before = stage.picture()

    refused(lambda: stage.network(name), error)

    assert stage.picture() == before


@pytest.mark.parametrize(
    ("request_", "error", "named"),
    [
        ({"driver": "carrier-pigeon"}, NotFound, "carrier-pigeon"),
        ({"driver": "host"}, Forbidden, '"host"'),
        ({"driver": "null"}, Forbidden, '"null"'),
        ({"ipam_driver": "dhcp"}, NotFound, "dhcp"),
        ({"ipam_driver": "null"}, InvalidParameter, "IPAM"),
        ({"options": {"no.such": "1"}}, InvalidParameter, "no.such"),
        ({"options": {"com.docker.network.bridge.default_bridge": "true"}}, NotBuilt, "default_bridge"),
        ({"options": {"com.docker.network.driver.mtu": "67"}}, InvalidParameter, "68"),
        ({"options": {"com.docker.network.driver.mtu": "1279"}, "enable_ipv6": True}, InvalidParameter, "1280"),
        ({"options": ISOLATED}, InvalidParameter, "internal"),
        ({"enable_ipv4": False}, InvalidParameter, "IPv4 or IPv6"),
        ({"ipam_config": (IpamConfig(subnet="10.1.0.0/33"),)}, InvalidParameter, "10.1.0.0/33"),
        ({"ipam_config": (SUBNET, IpamConfig(subnet="10.2.0.0/24"))}, InvalidParameter, "multiple"),
        ({"ipam_config": (IpamConfig(subnet="172.18.0.0/24"),)}, Forbidden, "overlap"),
        ({"ipam_config": (IpamConfig(subnet="127.1.0.0/24"),)}, InvalidParameter, "loopback"),
        ({"ipam_config": (IpamConfig(subnet="224.1.0.0/24"),)}, InvalidParameter, "multicast"),
        ({"ipam_config": (IpamConfig(subnet="fe80::/64"),), "enable_ipv6": True}, InvalidParameter, "link-local"),
        ({"ipam_config": (IpamConfig(subnet="ff02::/64"),), "enable_ipv6": True}, InvalidParameter, "multicast"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused_and_nothing_is_left_of_it(
    stage: Stage, request_: dict[str, object], error: type[CnmError], named: str
) -> None:
    stage.network("taken", ipam_config=(IpamConfig(subnet="172.18.0.0/16"),))
    before = stage.picture()

    assert named in refused(lambda: stage.network("new", **request_), error)

    assert stage.picture() == before
    assert stage.network("new").pools[0].subnet == "172.19.0.0/16"


def test_two_networks_cannot_have_one_bridge(stage: Stage) -> None:
    options = {"com.docker.network.bridge.name": "br-web"}
    stage.network("web", options=options)

    assert "br-web" in refused(lambda: stage.network("other", options=options), Forbidden)


def test_a_foreign_interface_of_the_bridge_s_name_is_refused_and_untouched(stage: Stage) -> None:
    before = stage.picture()

    message = refused(
        lambda: stage.network("web", options={"com.docker.network.bridge.name": "uplink0"}), Conflict
    )

    assert message == "interface uplink0 exists and is not ours: rename or delete it, or choose another name"
    assert stage.picture() == before


def test_default_pools_end_and_come_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, pools=[("10.9.0.0/23", 24)])
    for name in ("a", "b"):
        stage.network(name)

    refused(lambda: stage.network("c"), Unavailable)
    stage.controller.delete_network("a")

    assert stage.network("c").pools[0].subnet == "10.9.0.0/24"
    stage.end()


def test_a_network_with_endpoints_cannot_be_deleted(stage: Stage) -> None:
    stage.network("web")
    stage.sandbox("box")
    stage.controller.connect("web", "box", EndpointRequest())

    message = refused(lambda: stage.controller.delete_network("web"), Forbidden)

    assert "network web has active endpoints" in message
    assert 'name:"box"' in message


def test_prune_deletes_what_is_unused_and_not_held_on_to(stage: Stage) -> None:
    for name in ("used", "idle", "kept"):
        stage.network(name)
    stage.controller.create_endpoint("used", EndpointRequest(name="e"))

    assert stage.controller.prune_networks(lambda network: network.name == "kept") == ["idle"]
    assert {network.name for network in stage.controller.networks()} == {
        "bridge",
        "host",
        "none",
        "used",
        "kept",
    }


def test_deleting_what_is_gone_is_not_found(stage: Stage) -> None:
    stage.network("web")
    stage.controller.delete_network("web")

    assert refused(lambda: stage.controller.delete_network("web"), NotFound) == "network web not found"


# The networks that exist from first start


def test_bridge_host_and_none_exist_from_first_start(stage: Stage) -> None:
    found = {network.name: network.driver for network in stage.controller.networks()}

    assert found == {"bridge": "bridge", "host": "host", "none": "null"}


def test_bridge_gets_its_device_and_pool_at_first_use(stage: Stage) -> None:
    assert stage.controller.network("bridge").pools == ()
    assert set(stage.links()) == {"lo", "uplink0"}

    stage.controller.create_endpoint("bridge", EndpointRequest(name="e"))

    (pool,) = stage.controller.network("bridge").pools
    assert pool.subnet == "172.18.0.0/16"  # 172.17.0.0/16 is docker0's
    assert set(stage.links()) - {"lo", "uplink0"} == {f"cnm-{stage.controller.network('bridge').id[:11]}"}
    assert stage.controller.doctor() == []


def test_bridge_keeps_its_pool_over_a_restart(stage: Stage) -> None:
    stage.controller.create_endpoint("bridge", EndpointRequest(name="e"))
    before = stage.controller.network("bridge")

    stage.restart()

    assert stage.controller.network("bridge") == before
    assert stage.network("web").pools[0].subnet == "172.19.0.0/16"


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_predefined_networks_cannot_be_deleted(stage: Stage, name: str) -> None:
    message = refused(lambda: stage.controller.delete_network(name), Forbidden)

    assert message == f"{name} is a pre-defined network and cannot be removed"
    assert stage.controller.prune_networks(lambda _: False) == []


@pytest.mark.parametrize("request_", [EndpointRequest(ipv4="172.18.0.9"), EndpointRequest(aliases=("db",))])
def test_predefined_networks_take_no_addresses_or_aliases(stage: Stage, request_: EndpointRequest) -> None:
    stage.sandbox("box")

    assert "user-defined" in refused(
        lambda: stage.controller.connect("bridge", "box", request_), InvalidParameter
    )


def test_only_the_host_s_sandbox_joins_host_and_joins_nothing_else(stage: Stage) -> None:
    stage.sandbox("box")
    stage.sandbox("machine", "host")
    stage.network("web")

    refused(lambda: stage.controller.connect("host", "box", EndpointRequest()), InvalidParameter)
    refused(lambda: stage.controller.connect("web", "machine", EndpointRequest()), InvalidParameter)
    joined = stage.controller.connect("host", "machine", EndpointRequest())

    assert (joined.ipv4, joined.ifname, joined.mac) == ("", "", "")
    assert set(stage.links()) - {"lo", "uplink0"} == {f"cnm-{stage.controller.network('web').id[:11]}"}


def test_none_goes_with_no_other_network(stage: Stage) -> None:
    stage.network("web")
    for box in ("alone", "social"):
        stage.sandbox(box)
    stage.controller.connect("none", "alone", EndpointRequest())
    stage.controller.connect("web", "social", EndpointRequest())

    refused(lambda: stage.controller.connect("web", "alone", EndpointRequest()), InvalidParameter)
    refused(lambda: stage.controller.connect("none", "social", EndpointRequest()), InvalidParameter)


# Sandboxes


def test_a_sandbox_has_a_namespace_of_its_own_until_it_is_deleted(stage: Stage) -> None:
    sandbox = stage.sandbox("box")

    assert (sandbox.kind, sandbox.state) == (SandboxKind.OWN, SandboxState.ACTIVE)
    assert sandbox.netns == f"{stage.settings.netns}/{sandbox.id[:12]}"
    assert stage.kernel.namespace_alive(sandbox.netns)
    stage.controller.delete_sandbox("box")
    assert not stage.kernel.namespace_alive(sandbox.netns)


def test_a_given_namespace_stays_when_its_sandbox_goes(stage: Stage) -> None:
    stage.kernel.create_namespace("/run/netns/mine")
    stage.network("web")
    stage.sandbox("box", "/run/netns/mine")
    stage.controller.connect("web", "box", EndpointRequest())

    stage.controller.delete_sandbox("box", force=True)

    assert stage.kernel.namespace_alive("/run/netns/mine")
    assert set(stage.links("/run/netns/mine")) == {"lo"}


@pytest.mark.parametrize(
    ("path", "error"),
    [("relative", InvalidParameter), ("/run/netns/missing", InvalidParameter), ("/run/netns/used", Conflict)],
)
def test_a_namespace_that_cannot_be_given_is_refused(stage: Stage, path: str, error: type[CnmError]) -> None:
    stage.kernel.create_namespace("/run/netns/used")
    stage.sandbox("first", "/run/netns/used")
    before = stage.picture()

    assert path in refused(lambda: stage.sandbox("second", path), error)

    assert stage.picture() == before


def test_the_host_s_own_namespace_is_not_given_by_a_path(stage: Stage) -> None:
    stage.kernel.spaces["/proc/1/ns/net"] = stage.kernel.spaces[HOST]

    message = refused(lambda: stage.sandbox("box", "/proc/1/ns/net"), InvalidParameter)

    assert message == "/proc/1/ns/net is the host's own network namespace: give 'host' instead"


def test_a_namespace_is_given_once_whatever_its_path(stage: Stage) -> None:
    own = stage.sandbox("first")
    stage.kernel.spaces["/run/netns/alias"] = stage.kernel.spaces[own.netns]

    assert "belongs to sandbox first" in refused(
        lambda: stage.sandbox("second", "/run/netns/alias"), Conflict
    )


@pytest.mark.parametrize("name", ["", "x", "-box", "a b", "ä1", "x" * 256, "box\n"])
def test_a_sandbox_of_a_bad_name_is_refused(stage: Stage, name: str) -> None:
    refused(lambda: stage.sandbox(name), InvalidParameter)

    assert stage.controller.sandboxes() == []


def test_a_sandbox_name_is_taken_once(stage: Stage) -> None:
    first = stage.sandbox("box")

    assert first.id[:12] in refused(lambda: stage.sandbox("box"), Conflict)
    assert list(stage.kernel.spaces) == [HOST, first.netns]


def test_a_connected_sandbox_is_deleted_only_by_force(stage: Stage) -> None:
    for name in ("web", "db"):
        stage.network(name)
    stage.sandbox("box")
    for name in ("web", "db"):
        stage.controller.connect(name, "box", EndpointRequest())

    assert "web, db" in refused(lambda: stage.controller.delete_sandbox("box"), Conflict)
    stage.controller.delete_sandbox("box", force=True)

    assert stage.controller.endpoints() == []
    assert stage.controller.doctor() == []


# Events


def test_every_verb_tells_what_it_did(stage: Stage) -> None:
    controller = stage.controller
    stage.network("web")
    stage.sandbox("box")
    controller.create_endpoint("web", EndpointRequest(name="e"))
    controller.join("web/e", "box")
    controller.leave("web/e")
    controller.delete_endpoint("web/e")
    controller.delete_sandbox("box")
    controller.delete_network("web")

    assert stage.events() == [
        *[("network", "create"), ("sandbox", "create"), ("endpoint", "create"), ("network", "connect")],
        *[("network", "disconnect"), ("endpoint", "destroy"), ("sandbox", "destroy"), ("network", "destroy")],
    ]


def test_an_event_of_a_connection_names_network_sandbox_and_endpoint(stage: Stage) -> None:
    network, sandbox = stage.network("web"), stage.sandbox("box")

    with stage.controller.subscribe() as events:
        stage.controller.connect("web", "box", EndpointRequest())
        event = events.get(timeout=5)

    assert (event.type, event.action, event.id) == ("network", "connect", network.id)
    assert event.attributes == {"name": "web", "type": "bridge", "container": sandbox.id, "endpoint": "box"}


def test_what_is_refused_is_no_event(stage: Stage) -> None:
    refused(lambda: stage.network("bridge"), Forbidden)
    refused(lambda: stage.controller.delete_sandbox("missing"), NotFound)

    assert stage.events() == []
