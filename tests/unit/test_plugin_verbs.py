"""dockerd's verbs as its plugin protocol asks for them: in any order, twice, and by the rules of its networks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cnm.collector import Collector
from cnm.endpoint import EndpointRequest, EndpointState
from cnm.errors import Forbidden
from cnm.kernel.state import HOST, Address, Group, Route
from tests.unit.plugin_stage import (
    ENDPOINT,
    KEY,
    NETWORK,
    OTHER_ENDPOINT,
    OTHER_KEY,
    OTHER_NETWORK,
    PluginStage,
    dual_endpoint,
    endpoint,
    joining,
    make_namespace,
    move_link,
    network,
    port,
)
from tests.unit.verbs_stage import free_port, is_held, refused, tcp

HOST_END, SOURCE = f"cv{ENDPOINT[:12]}", f"cp{ENDPOINT[:12]}"
ROUTED = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[PluginStage]:
    stage = PluginStage(tmp_path)
    yield stage
    assert stage.controller.doctor() == []
    stage.end()


@pytest.fixture
def joined(stage: PluginStage) -> PluginStage:
    """A container with the link moved into its namespace."""
    stage.create_network()
    stage.create_endpoint()
    make_namespace(stage, KEY)
    stage.join()
    move_in(stage)
    return stage


@pytest.fixture
def direct(stage: PluginStage) -> PluginStage:
    """A container with the link made inside."""
    stage.direct_is_safe = True
    stage.create_network(ipv6=True)
    stage.say("CreateEndpoint", **dual_endpoint())
    make_namespace(stage, KEY)
    stage.join()
    return stage


def move_in(stage: PluginStage, key: str = KEY) -> None:
    move_link(stage, SOURCE, HOST, "eth0", key)


def bring_back(stage: PluginStage, key: str = KEY) -> None:
    move_link(stage, "eth0", key, SOURCE, HOST)


# Networks


def test_a_network_is_made_once_however_often_it_is_asked_for(stage: PluginStage) -> None:
    stage.create_network(ipv6=True)
    made = stage.picture()

    stage.create_network(ipv6=True)
    stage.restart()
    stage.create_network(ipv6=True)

    assert {**stage.picture(), "events": made["events"]} == made


@pytest.mark.parametrize(
    "other",
    [
        {"subnet": "10.67.0.0/24"},
        {"internal": True},
        {"ipv6": True},
        {"options": {"com.docker.network.driver.mtu": "1400"}},
        {"options": {"cnm.join": "direct"}},
    ],
)
def test_other_settings_under_the_same_id_are_refused(stage: PluginStage, other: dict[str, Any]) -> None:
    stage.create_network()

    assert "exists already with other settings" in stage.refused("CreateNetwork", **network(**other))


def test_a_network_goes_with_whatever_is_left_in_it(joined: PluginStage) -> None:
    joined.program(port(80, free_port()))

    joined.say("DeleteNetwork", NetworkID=NETWORK)

    assert joined.controller.endpoints() == []
    assert joined.controller.sandboxes() == []
    assert sorted(joined.links()) == ["lo", "uplink0"]
    assert sorted(joined.links(KEY)) == ["lo"]


def test_deleting_an_unknown_network_is_no_error(stage: PluginStage) -> None:
    stage.say("DeleteNetwork", NetworkID=NETWORK)


def test_a_network_of_ours_with_the_id_is_not_replaced(stage: PluginStage) -> None:
    ours = stage.network("web")

    assert "already exists" in stage.refused("CreateNetwork", **network(ours.id))
    stage.say("DeleteNetwork", NetworkID=ours.id)

    assert stage.controller.network("web") == ours


def test_networks_whose_ids_are_those_of_swarm_are_made(stage: PluginStage) -> None:
    stage.create_network("z9" * 12 + "a", ipv6=True)

    stage.say("DeleteNetwork", NetworkID="z9" * 12 + "a")


# Endpoints


def test_an_endpoint_is_made_once_however_often_it_is_asked_for(stage: PluginStage) -> None:
    stage.create_network()
    first = stage.create_endpoint()
    made = stage.picture()

    assert stage.create_endpoint() == first
    assert stage.picture() == made


def test_a_mac_is_answered_only_where_none_was_given(stage: PluginStage) -> None:
    stage.create_network()

    chosen = stage.create_endpoint()["Interface"]
    given = stage.create_endpoint(OTHER_ENDPOINT, "10.66.0.3/24", mac="02:aa:bb:cc:dd:ee")["Interface"]

    assert chosen == {"Address": "", "AddressIPv6": "", "MacAddress": "02:42:0a:42:00:02"}
    assert given == {"Address": "", "AddressIPv6": "", "MacAddress": ""}


@pytest.mark.parametrize(
    "other", [{"ipv4": "10.66.0.9/24"}, {"mac": "02:aa:bb:cc:dd:ee"}, {"net": OTHER_NETWORK}]
)
def test_another_endpoint_under_the_same_id_is_refused(stage: PluginStage, other: dict[str, Any]) -> None:
    stage.create_network()
    stage.create_network(OTHER_NETWORK, subnet="10.67.0.0/24")
    stage.create_endpoint()

    assert "exists already with other settings" in stage.refused("CreateEndpoint", **endpoint(**other))


def test_an_endpoint_of_ours_with_the_id_is_not_replaced(stage: PluginStage) -> None:
    stage.network("web")
    ours = stage.controller.create_endpoint("web", EndpointRequest(name="e"))
    stage.create_network()

    assert "exists already" in stage.refused("CreateEndpoint", **endpoint(ours.id))
    stage.tell("DeleteEndpoint", ours.id)

    assert stage.controller.endpoint("web/e") == ours


def test_a_forgotten_endpoint_makes_way_for_its_address(stage: PluginStage) -> None:
    stage.create_network()
    stage.create_endpoint()

    stage.create_endpoint(OTHER_ENDPOINT)

    assert [e.id for e in stage.controller.endpoints()] == [OTHER_ENDPOINT]


def test_a_container_keeps_its_address(joined: PluginStage) -> None:
    assert "Address already in use" in joined.refused("CreateEndpoint", **endpoint(OTHER_ENDPOINT))


def test_an_endpoint_of_an_unknown_network_is_refused_with_the_remedy(stage: PluginStage) -> None:
    assert "docker network rm, and create it again" in stage.refused("CreateEndpoint", **endpoint())


@pytest.mark.parametrize("method", ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity"])
def test_what_is_unknown_or_done_already_is_no_error(stage: PluginStage, method: str) -> None:
    stage.tell(method)
    stage.create_network()
    stage.tell(method)
    stage.create_endpoint()
    stage.tell(method)
    stage.tell(method)


# Joining, with links that dockerd moves


def test_a_moved_link_waits_on_the_host_under_the_name_that_is_answered(stage: PluginStage) -> None:
    stage.create_network()
    stage.create_endpoint()

    answer = stage.join()

    assert answer["InterfaceName"] == {"SrcName": SOURCE, "DstPrefix": "eth", "DstName": ""}
    assert (answer["Gateway"], answer["GatewayIPv6"]) == ("10.66.0.1", "")
    assert answer["DisableGatewayService"] is False
    assert stage.links()[SOURCE].mac == "02:42:0a:42:00:02"
    assert stage.links()[HOST_END].up


def test_the_same_join_again_has_the_same_answer(stage: PluginStage) -> None:
    stage.create_network()
    stage.create_endpoint()
    first, made = stage.join(), stage.picture()

    assert stage.join() == first
    assert stage.picture() == made


def test_a_join_elsewhere_leaves_the_first_sandbox(joined: PluginStage) -> None:
    make_namespace(joined, OTHER_KEY)

    answer = joined.join(key=OTHER_KEY)

    (box,) = joined.controller.sandboxes()
    assert box.netns == OTHER_KEY
    assert answer["InterfaceName"]["SrcName"] == SOURCE


def test_the_prefix_of_the_network_is_answered(stage: PluginStage) -> None:
    stage.create_network(options={"com.docker.network.container_iface_prefix": "web"})
    stage.create_endpoint()

    assert stage.join()["InterfaceName"]["DstPrefix"] == "web"


def test_an_internal_network_has_no_gateway_and_wants_none_of_dockerd(stage: PluginStage) -> None:
    stage.create_network(internal=True)
    stage.create_endpoint()

    answer = stage.join()

    assert (answer["Gateway"], answer["DisableGatewayService"]) == ("", True)


def test_leaving_cuts_off_and_deleting_deletes_what_dockerd_brought_back(joined: PluginStage) -> None:
    joined.tell("Leave")
    assert joined.links()[HOST_END].group == Group.LEFT
    assert joined.elements("guard4") == set()

    bring_back(joined)
    joined.tell("DeleteEndpoint")

    assert {HOST_END, SOURCE}.isdisjoint(joined.links())


def test_a_link_that_dockerd_did_not_bring_back_is_deleted_where_it_is(joined: PluginStage) -> None:
    joined.tell("Leave")
    joined.tell("DeleteEndpoint")

    assert HOST_END not in joined.links()
    assert sorted(joined.links(KEY)) == ["lo"]


def test_an_endpoint_that_left_can_join_again(joined: PluginStage) -> None:
    joined.tell("Leave")
    bring_back(joined)

    assert joined.join(key=OTHER_KEY)["InterfaceName"]["SrcName"] == SOURCE
    assert (joined.links()[HOST_END].group, joined.links()[HOST_END].up) == (Group.PORT, True)


def test_doctor_minds_an_end_that_left_only_if_it_is_not_cut_off(joined: PluginStage) -> None:
    whole = joined.links()[HOST_END]
    joined.tell("Leave")
    assert joined.controller.doctor() == []

    joined.links()[HOST_END] = whole

    assert [finding.observed for finding in joined.controller.doctor()] == [whole]
    joined.controller.repair()


def test_a_join_of_what_is_unknown_is_refused_with_the_remedy(stage: PluginStage) -> None:
    assert "create it again" in stage.refused("Join", **joining())
    stage.create_network()

    assert "disconnect and connect the container" in stage.refused("Join", **joining())


# Joining, with links made inside


def test_a_direct_link_is_inside_with_names_from_100_and_dockerd_moves_nothing(direct: PluginStage) -> None:
    direct.create_network(OTHER_NETWORK, subnet="10.67.0.0/24")
    direct.create_endpoint(OTHER_ENDPOINT, "10.67.0.2/24", OTHER_NETWORK)

    answer = direct.join(OTHER_ENDPOINT, net=OTHER_NETWORK)

    assert answer["InterfaceName"]["SrcName"] == ""
    assert sorted(direct.links(KEY)) == ["eth100", "eth101", "lo"]
    assert (answer["Gateway"], answer["DisableGatewayService"]) == ("10.67.0.1", False)


def test_direct_addresses_have_full_length_and_their_subnet_is_a_route(direct: PluginStage) -> None:
    records = direct.kernel.spaces[KEY].records

    assert {r.address for r in records if isinstance(r, Address)} == {"10.66.0.2/32", "fd66::2/128"}
    routes = {r.destination for r in records if isinstance(r, Route)}
    assert routes == {"10.66.0.0/24", "fd66::/64"}


def test_direct_links_announce_themselves(direct: PluginStage) -> None:
    switches = {
        key.partition(":")[2]: value for key, value in direct.kernel.sysctls.items() if key.startswith(KEY)
    }

    assert switches["net/ipv4/conf/eth100/arp_notify"] == "1"
    assert switches["net/ipv6/conf/eth100/ndisc_notify"] == "1"
    assert switches["net/ipv6/conf/eth100/disable_ipv6"] == "0"


def test_a_direct_link_without_ipv6_has_it_switched_off(stage: PluginStage) -> None:
    stage.direct_is_safe = True
    stage.create_network()
    stage.create_endpoint()
    make_namespace(stage, KEY)

    stage.join()

    assert stage.kernel.sysctls[f"{KEY}:net/ipv6/conf/eth100/disable_ipv6"] == "1"


def test_a_namespace_that_is_not_there_yet_gets_a_link_to_be_moved(stage: PluginStage) -> None:
    stage.direct_is_safe = True
    stage.create_network()
    stage.create_endpoint()

    assert stage.join()["InterfaceName"]["SrcName"] == SOURCE


def test_a_direct_link_goes_with_leave(direct: PluginStage) -> None:
    direct.tell("Leave")

    assert sorted(direct.links(KEY)) == ["lo"]
    assert HOST_END not in direct.links()


def test_a_name_for_the_interface_is_for_direct_links(stage: PluginStage) -> None:
    stage.create_network()
    named = endpoint(options={"com.docker.network.endpoint.ifname": "up0"})
    assert "has no effect here" in stage.refused("CreateEndpoint", **named)

    stage.direct_is_safe = True
    stage.say("CreateEndpoint", **named)
    make_namespace(stage, KEY)
    stage.join()

    assert "up0" in stage.links(KEY)


def test_sysctls_of_an_interface_are_dockerds_to_set_where_it_moves_the_link(stage: PluginStage) -> None:
    switched = endpoint(
        options={"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}
    )
    stage.create_network()
    stage.say("CreateEndpoint", **switched)
    stage.tell("DeleteEndpoint")

    stage.direct_is_safe = True

    assert "has no effect on links" in stage.refused("CreateEndpoint", **switched)


# Ports


def test_ports_are_published_when_the_endpoint_becomes_the_way_out(joined: PluginStage) -> None:
    host = free_port()
    joined.tell("Leave")
    bring_back(joined)
    joined.join(ports=(port(80, host),))
    assert not is_held(host)

    joined.program(port(80, host))
    assert is_held(host)

    joined.tell("RevokeExternalConnectivity")
    assert not is_held(host)


def test_publishing_the_same_again_changes_nothing(joined: PluginStage) -> None:
    host = free_port()
    joined.program(port(80, host))
    made = joined.picture()

    joined.program(port(80, host))

    assert joined.picture() == made


def test_other_ports_take_the_place_of_those_before(joined: PluginStage) -> None:
    first, second = free_port(), free_port()
    joined.program(port(80, first))

    joined.program(port(80, second))

    assert (is_held(first), is_held(second)) == (False, True)


def test_a_port_of_somebody_else_is_refused_in_dockers_words(joined: PluginStage) -> None:
    host = free_port()
    joined.program(port(80, host))
    joined.create_endpoint(OTHER_ENDPOINT, "10.66.0.3/24")
    joined.join(OTHER_ENDPOINT, OTHER_KEY)

    text = joined.refused(
        "ProgramExternalConnectivity",
        NetworkID=NETWORK,
        EndpointID=OTHER_ENDPOINT,
        Options={"com.docker.network.portmap": [port(80, host)]},
    )

    assert "port is already allocated" in text
    assert joined.controller.endpoint(OTHER_ENDPOINT).ports == ()


def test_ports_that_need_no_host_port_are_open_from_the_join_on(stage: PluginStage) -> None:
    stage.create_network(options=ROUTED)
    stage.create_endpoint()

    stage.join(ports=(port(80, 8080),))
    before = stage.elements("open4")
    assert before
    stage.tell("RevokeExternalConnectivity")

    assert [p.container_port for p in stage.controller.endpoint(ENDPOINT).ports] == [80]
    assert stage.elements("open4") == before


def test_an_internal_network_publishes_nothing(stage: PluginStage) -> None:
    host = free_port()
    stage.create_network(internal=True)
    stage.create_endpoint()
    stage.join(ports=(port(80, host),))

    stage.program(port(80, host))

    assert not is_held(host)


def test_what_is_in_no_sandbox_publishes_nothing(stage: PluginStage) -> None:
    stage.create_network()
    stage.create_endpoint()

    assert "join it first" in stage.refused(
        "ProgramExternalConnectivity", NetworkID=NETWORK, EndpointID=ENDPOINT
    )


def test_the_ports_of_one_container_are_not_the_nexts(joined: PluginStage) -> None:
    host = free_port()
    joined.program(port(80, host))

    joined.tell("Leave")
    bring_back(joined)
    joined.join(key=OTHER_KEY)

    assert joined.controller.endpoint(ENDPOINT).port_requests == ()
    assert not is_held(host)


# Hands off


@pytest.mark.parametrize(
    ("verb", "command"),
    [
        (lambda c: c.delete_network(NETWORK), "docker network rm"),
        (lambda c: c.create_endpoint(NETWORK, EndpointRequest(name="x")), "docker network connect"),
        (lambda c: c.connect(NETWORK, "mine", EndpointRequest()), "docker network connect"),
        (lambda c: c.delete_endpoint(ENDPOINT, force=True), "docker network disconnect"),
        (lambda c: c.leave(ENDPOINT), "docker network disconnect"),
        (lambda c: c.join(ENDPOINT, "mine"), "docker network connect"),
        (lambda c: c.disconnect(NETWORK, c.sandboxes()[0].id), "docker network disconnect"),
        (lambda c: c.publish(ENDPOINT, [tcp(80, 0)]), "docker run"),
        (lambda c: c.unpublish(ENDPOINT, []), "docker run"),
        (lambda c: c.delete_sandbox(c.sandboxes()[0].id, force=True), "docker rm"),
    ],
)
def test_a_hand_verb_is_refused_with_the_docker_command_to_use(
    joined: PluginStage, verb: Any, command: str
) -> None:
    joined.sandbox("mine")
    before = joined.picture()

    assert command in refused(lambda: verb(joined.controller), Forbidden)
    assert joined.picture() == before


# Names


def test_names_are_learnt_unless_ours_have_them(joined: PluginStage) -> None:
    verbs = joined.controller.dockerd
    joined.network("taken")
    (net,) = verbs.networks()
    assert verbs.has_unnamed(net)

    verbs.rename_network(net, "taken")
    verbs.rename_container(ENDPOINT, "front")
    assert joined.controller.network(NETWORK).name == f"docker-{NETWORK[:12]}"
    verbs.rename_network(net, "web")
    joined.restart()

    assert joined.controller.network("web").id == NETWORK
    assert joined.controller.sandbox("front").netns == KEY
    assert not joined.controller.dockerd.has_unnamed(net)


# Restarts and what dockerd forgot


@pytest.mark.parametrize("state", ["created", "joined", "moved", "published", "left", "brought back"])
def test_a_restart_finds_an_endpoint_as_it_was(stage: PluginStage, state: str) -> None:
    steps = {
        "created": lambda: (stage.create_network(), stage.create_endpoint()),
        "joined": lambda: (make_namespace(stage, KEY), stage.join()),
        "moved": lambda: move_in(stage),
        "published": lambda: stage.program(port(80, free_port())),
        "left": lambda: stage.tell("Leave"),
        "brought back": lambda: bring_back(stage),
    }
    for name, step in steps.items():
        step()
        if name == state:
            break
    before = {**stage.picture(), "events": []}

    stage.restart()

    assert {**stage.picture(), "events": []} == before
    stage.tell("Leave")
    stage.tell("DeleteEndpoint")
    assert HOST_END not in stage.links()


def test_a_container_that_ended_while_cnmd_was_down_is_gone_after_the_start(joined: PluginStage) -> None:
    joined.kernel.remove_namespace(KEY)

    joined.restart()

    assert joined.controller.endpoints() == []
    assert joined.controller.sandboxes() == []


def test_what_looks_forgotten_twice_is_collected(stage: PluginStage) -> None:
    stage.create_network()
    stage.create_endpoint()
    collector = Collector(stage.controller, 60)

    collector.collect()
    assert stage.controller.endpoints()
    collector.collect()

    assert stage.controller.endpoints() == []


def test_what_has_a_container_is_not_collected(joined: PluginStage) -> None:
    collector = Collector(joined.controller, 60)
    for _ in range(3):
        collector.collect()

    assert [e.state for e in joined.controller.endpoints()] == [EndpointState.JOINED]


def test_a_container_without_a_namespace_at_its_key_is_judged_by_its_link(stage: PluginStage) -> None:
    """20.10 joins before it makes the namespace."""
    stage.create_network()
    stage.create_endpoint()
    stage.join()
    assert stage.controller.stale_endpoints() == [ENDPOINT]

    stage.kernel.create_namespace("/elsewhere")
    move_in(stage, "/elsewhere")

    assert stage.controller.stale_endpoints() == []


def test_repair_deletes_what_no_container_is_behind(joined: PluginStage) -> None:
    joined.kernel.remove_namespace(KEY)

    joined.controller.repair()

    assert joined.controller.endpoints() == []


# At the same time


def test_a_request_that_is_repeated_before_its_answer_is_done_once(stage: PluginStage) -> None:
    stage.create_network()
    together(*[lambda: stage.create_endpoint()] * 8)
    together(*[lambda: stage.join()] * 8)

    assert len(stage.controller.endpoints()) == 1
    together(*[lambda: stage.tell("Leave")] * 4, *[lambda: stage.tell("DeleteEndpoint")] * 4)

    assert HOST_END not in stage.links()
    assert stage.controller.endpoints() == []


def test_a_network_that_is_asked_for_twice_at_once_is_made_once(stage: PluginStage) -> None:
    together(*[lambda: stage.create_network()] * 8)

    assert len(stage.controller.dockerd.networks()) == 1
    assert [r for r in stage.kernel.spaces[HOST].records if isinstance(r, Address)]


def together(*calls: Any) -> None:
    """Each in a thread of its own; raises what the first of them raised."""
    ready = threading.Barrier(len(calls))

    def run(call: Any) -> None:
        ready.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as threads:
        for done in [threads.submit(run, call) for call in calls]:
            done.result()
