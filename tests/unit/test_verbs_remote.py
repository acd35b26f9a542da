"""Networks of another program's driver: what the verbs tell it, in dockerd's order, and what its mistakes do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cnm.endpoint import Endpoint, EndpointRequest, EndpointState, Protocol
from cnm.errors import CnmError, InvalidParameter, KernelError, NotFound
from cnm.kernel.state import Address, Link, LinkKind, Route
from cnm.network import IpamConfig, Network, NetworkState
from cnm.sandbox import SandboxState
from cnm.wire.plugin_client import PluginAway, PluginRefused
from tests.support.scripted_plugin import Kept, Reply, ScriptedPlugin, answer, error, scripted_plugin
from tests.unit.verbs_stage import Stage, refused, tcp

ONE = IpamConfig(subnet="10.9.0.0/24")
GOOD_JOIN = {
    "Gateway": "10.9.0.1",
    "StaticRoutes": [
        {"Destination": "198.18.0.0/24", "RouteType": 1},
        {"Destination": "198.19.0.0/24", "RouteType": 0, "NextHop": "10.9.0.9"},
    ],
    "DisableGatewayService": True,
}


@contextmanager
def plugin_of(stage: Stage, name: str = "lp") -> Iterator[ScriptedPlugin]:
    """A plugin whose links are in the fake kernel."""
    with scripted_plugin(stage.place / "plugins" / f"{name}.sock") as made:
        made.make_link = lambda link: stage.links().setdefault(
            link, Link(link, LinkKind.VETH, "06:00:00:00:00:01", up=False)
        )
        made.drop_link = lambda link: stage.links().pop(link, None)
        made.join_answer = dict(GOOD_JOIN)
        yield made


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


@pytest.fixture
def plugin(stage: Stage) -> Iterator[ScriptedPlugin]:
    with plugin_of(stage) as made:
        yield made


def network(stage: Stage, name: str = "far", **request: Any) -> Network:
    return stage.network(name, driver="lp", **{"ipam_config": (ONE,), **request})


def connect(stage: Stage, net: str = "far", box: str = "box", **request: Any) -> Endpoint:
    return stage.controller.connect(net, box, EndpointRequest(**request))


def records(stage: Stage, box: str = "box") -> set[object]:
    return set(stage.kernel.spaces[stage.controller.sandbox(box).netns].records)


def links(stage: Stage, box: str = "box") -> dict[str, Link]:
    return stage.links(stage.controller.sandbox(box).netns)


# Networks


def test_a_network_is_told_with_its_pools_and_options(stage: Stage, plugin: ScriptedPlugin) -> None:
    config = IpamConfig(subnet="10.9.0.0/24", gateway="10.9.0.254", aux_addresses={"router": "10.9.0.7"})
    made = network(stage, ipam_config=(config,), options={"vlan": "7"}, internal=True, labels={"a": "b"})

    assert plugin.asked() == ["Plugin.Activate", "GetCapabilities", "CreateNetwork"]
    assert plugin.last("CreateNetwork") == {
        "NetworkID": made.id,
        "Options": {
            "com.docker.network.enable_ipv4": True,
            "com.docker.network.enable_ipv6": False,
            "com.docker.network.generic": {"vlan": "7"},
            "com.docker.network.internal": True,
        },
        "IPv4Data": [
            {
                "AddressSpace": "LocalDefault",
                "Pool": "10.9.0.0/24",
                "Gateway": "10.9.0.254/24",
                "AuxAddresses": {"router": "10.9.0.7/24"},
            }
        ],
        "IPv6Data": [],
    }
    assert (made.driver, made.scope) == ("lp", "local")


def test_a_deleted_network_is_told(stage: Stage, plugin: ScriptedPlugin) -> None:
    made = network(stage)
    stage.controller.delete_network("far")

    assert plugin.last("DeleteNetwork") == {"NetworkID": made.id}
    assert plugin.kept == Kept()
    assert stage.store.load(Network)[0].name != "far"


def test_a_driver_of_global_scope_makes_global_networks(stage: Stage, plugin: ScriptedPlugin) -> None:
    plugin.network_capabilities = {"Scope": "global", "ConnectivityScope": "global", "New": 1}

    assert network(stage, ipam_driver="lp").scope == "global"
    assert plugin.last("RequestPool")["AddressSpace"] == "everywhere"
    assert plugin.last("CreateNetwork")["IPv4Data"][0]["AddressSpace"] == "everywhere"


@pytest.mark.parametrize(
    "capabilities", [{}, {"Scope": "planet"}, {"Scope": "local", "ConnectivityScope": "x"}]
)
def test_a_scope_that_is_none_is_refused_and_asked_for_again(
    stage: Stage, plugin: ScriptedPlugin, capabilities: dict[str, Any]
) -> None:
    plugin.network_capabilities = capabilities
    message = refused(lambda: network(stage), InvalidParameter)
    assert message.startswith("plugin lp: invalid capability: expecting 'local' or 'global'")

    plugin.network_capabilities = {"Scope": "local"}
    assert network(stage).driver == "lp"


def test_an_unknown_driver_is_refused_at_once_in_dockers_words(stage: Stage) -> None:
    message = refused(lambda: network(stage), NotFound)

    assert (
        message
        == 'could not find network driver "lp": known are bridge, host, ipvlan, macvlan, null, overlay'
    )
    assert stage.clock.pauses == []


def test_an_unknown_ipam_is_refused_at_once_in_dockers_words(stage: Stage) -> None:
    message = refused(lambda: stage.network("far", ipam_driver="lp"), NotFound)

    assert message == 'could not find ipam driver "lp": known are default, null'
    assert stage.clock.pauses == []


def test_a_plugin_that_checks_gateways_is_asked_before_pools_are(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    plugin.network_capabilities = {"Scope": "local", "GwAllocChecker": True}

    made = network(stage, ipam_driver="lp", ipam_config=())

    assert made.pools[0].gateway == ""
    order = ["GwAllocCheck", "IpamDriver.RequestPool", "CreateNetwork"]
    assert [name for name in plugin.asked() if name in order] == order
    assert plugin.last("GwAllocCheck")["Options"] == plugin.last("CreateNetwork")["Options"]


def test_a_gateway_that_the_user_gave_is_kept_all_the_same(stage: Stage, plugin: ScriptedPlugin) -> None:
    plugin.network_capabilities = {"Scope": "local", "GwAllocChecker": True}

    made = network(stage, ipam_config=(IpamConfig(subnet="10.9.0.0/24", gateway="10.9.0.3"),))

    assert made.pools[0].gateway == "10.9.0.3"


def test_a_network_that_the_plugin_refuses_is_not_there(stage: Stage, plugin: ScriptedPlugin) -> None:
    before = stage.picture()
    plugin.script("NetworkDriver.CreateNetwork", error("no room"))

    message = refused(lambda: network(stage, ipam_driver="lp", ipam_config=()), PluginRefused)

    assert message == "plugin lp: NetworkDriver.CreateNetwork: no room"
    assert stage.picture() == before
    assert "DeleteNetwork" not in plugin.asked()
    assert plugin.kept == Kept()


def test_a_network_goes_even_if_its_plugin_says_no(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    plugin.script("NetworkDriver.DeleteNetwork", error("never"))

    stage.controller.delete_network("far")

    assert "far" not in [n.name for n in stage.controller.networks()]


# Endpoints


def test_connecting_and_disconnecting_go_in_dockerds_order(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage, ipam_driver="lp", ipam_config=())
    stage.sandbox()
    plugin.join_answer["Gateway"] = "10.77.1.1"
    plugin.join_answer["StaticRoutes"] = None
    plugin.calls.clear()

    connect(stage)
    stage.controller.disconnect("far", "box")

    assert [name.removeprefix("IpamDriver.") for name in plugin.asked()] == [
        *("RequestAddress", "CreateEndpoint", "Join", "ProgramExternalConnectivity"),
        *("RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "ReleaseAddress"),
    ]
    assert not plugin.kept.endpoints
    assert not plugin.kept.joined
    assert not plugin.kept.programmed


def test_the_link_is_in_the_sandbox_with_addresses_and_routes(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()

    endpoint = connect(stage)

    (link,) = plugin.kept.links.values()
    assert link not in stage.links()
    assert links(stage)["eth0"].mac == endpoint.mac
    assert endpoint.mac.startswith("02:77:")
    assert records(stage) == {
        Address("eth0", "10.9.0.2/24"),
        Route("198.18.0.0/24", "eth0"),
        Route("198.19.0.0/24", "eth0", "10.9.0.9"),
        Route("0.0.0.0/0", "eth0", "10.9.0.1"),
    }
    assert stage.controller.doctor() == []


def test_the_link_is_given_back_before_the_endpoint_is_deleted(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    connect(stage)
    (link,) = plugin.kept.links.values()
    there: list[bool] = []
    plugin.drop_link = lambda name: there.append(name in stage.links())

    stage.controller.disconnect("far", "box")

    assert there == [True]
    assert stage.links()[link].up is False


def test_a_mac_that_the_user_gave_is_told_twice_and_kept(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()

    endpoint = connect(stage, mac="02:AA:bb:cc:dd:ee", options={"com.example.k": "v"})

    told = plugin.last("CreateEndpoint")
    assert told["Interface"] == {
        "Address": "10.9.0.2/24", "AddressIPv6": "", "MacAddress": "02:aa:bb:cc:dd:ee",
    }  # fmt: skip
    assert told["Options"] == {
        "com.example.k": "v",
        "com.docker.network.endpoint.macaddress": "Aqq7zN3u",
        "com.docker.network.portmap": [],
        "com.docker.network.endpoint.exposedports": [],
    }
    assert endpoint.mac == links(stage)["eth0"].mac == "02:aa:bb:cc:dd:ee"


def test_an_ipam_that_needs_a_mac_gets_one_that_the_driver_gets_too(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    plugin.ipam_capabilities = {"RequiresMACAddress": True}
    network(stage, ipam_driver="lp", ipam_config=())
    stage.sandbox()
    plugin.join_answer = {}

    endpoint = connect(stage)

    options = plugin.last("RequestAddress")["Options"]
    assert options == {
        "com.docker.network.endpoint.name": "box", "com.docker.network.endpoint.macaddress": endpoint.mac,
    }  # fmt: skip
    told = plugin.last("CreateEndpoint")
    assert told["Interface"]["MacAddress"] == endpoint.mac != ""
    assert "com.docker.network.endpoint.macaddress" not in told["Options"]


def test_a_plugin_may_choose_the_addresses_where_no_ipam_does(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage, ipam_driver="null", ipam_config=())
    stage.sandbox()
    plugin.script(
        "NetworkDriver.CreateEndpoint",
        answer(Interface={"Address": "192.0.2.7/24", "AddressIPv6": "2001:db8::7/64"}),
    )
    plugin.join_answer = {"Gateway": "192.0.2.1", "GatewayIPv6": "2001:db8::1"}

    endpoint = connect(stage)

    assert (endpoint.ipv4, endpoint.ipv6, endpoint.mac) == ("192.0.2.7/24", "2001:db8::7/64", "")
    assert Route("::/0", "eth0", "2001:db8::1") in records(stage)


def test_a_join_without_a_link_is_all_right(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    plugin.script("NetworkDriver.Join", Reply(b'{"InterfaceName": null}'))

    assert connect(stage).ifname == ""
    assert set(links(stage)) == {"lo"}
    stage.controller.disconnect("far", "box")


def test_links_are_numbered_by_prefix(stage: Stage, plugin: ScriptedPlugin) -> None:
    for number in (1, 2, 3):
        network(stage, f"far{number}", ipam_config=(IpamConfig(subnet=f"10.9.{number}.0/24"),))
    stage.sandbox()
    plugin.join_answer = {}
    connect(stage, "far1")
    connect(stage, "far2", ifname="up0")
    stage.links()["theirs"] = Link("theirs", LinkKind.VETH)
    plugin.script("NetworkDriver.Join", answer(InterfaceName={"SrcName": "theirs", "DstPrefix": "net"}))
    connect(stage, "far3")

    assert set(links(stage)) == {"lo", "eth0", "up0", "net0"}


def test_a_default_route_by_a_next_hop_is_a_gateway(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    plugin.join_answer = {
        "StaticRoutes": [{"Destination": "0.0.0.0/0", "RouteType": 0, "NextHop": "10.9.0.5"}]
    }

    connect(stage)

    assert Route("0.0.0.0/0", "eth0", "10.9.0.5") in records(stage)
    assert plugin.kept.programmed


def test_a_default_route_on_the_link_is_a_way_out(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    plugin.join_answer = {"StaticRoutes": [{"Destination": "0.0.0.0/0", "RouteType": 1}]}

    connect(stage)

    assert Route("0.0.0.0/0", "eth0") in records(stage)
    assert plugin.kept.programmed
    assert stage.controller.doctor() == []


def test_an_endpoint_can_be_made_joined_left_and_deleted_by_itself(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    network(stage)
    stage.sandbox()
    plugin.calls.clear()

    made = stage.controller.create_endpoint("far", EndpointRequest(name="e"))
    stage.controller.join("far/e", "box")
    left = stage.controller.endpoint("far/e")
    stage.controller.leave("far/e")
    stage.controller.join("far/e", "box")
    stage.controller.leave("far/e")
    stage.controller.delete_endpoint("far/e")

    again = ["Join", "ProgramExternalConnectivity", "RevokeExternalConnectivity", "Leave"]
    assert plugin.asked() == ["CreateEndpoint", *again, *again, "DeleteEndpoint"]
    assert made.mac == left.mac != ""
    assert plugin.kept.endpoints == set()
    assert stage.store.load(Endpoint) == []


# The way out, and ports


def test_who_becomes_the_way_out_is_told_and_who_was_it_before(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage, "one")
    network(stage, "two", ipam_config=(IpamConfig(subnet="10.10.0.0/24"),))
    stage.sandbox()
    first = connect(stage, "one")
    plugin.join_answer = {"Gateway": "10.10.0.1"}
    second = connect(stage, "two", gw_priority=5)
    assert set(plugin.kept.programmed) == {second.id}
    assert plugin.asked("ProgramExternalConnectivity", "RevokeExternalConnectivity")[-2:] == [
        "RevokeExternalConnectivity", "ProgramExternalConnectivity",
    ]  # fmt: skip

    stage.controller.disconnect("two", "box")
    assert set(plugin.kept.programmed) == {first.id}

    stage.network("web")
    connect(stage, "web", gw_priority=9)
    assert plugin.kept.programmed == {}
    stage.restart()
    stage.controller.disconnect("web", "box")
    assert set(plugin.kept.programmed) == {first.id}


def test_ports_are_told_one_by_one(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    asked = (
        tcp(80, 8080, host_address="127.0.0.1"),
        tcp(7000, 7000, container_port_end=7001, host_port_end=7001),
        tcp(53, protocol=Protocol.UDP),
        tcp(90, 9000, host_port_end=9009),
    )

    endpoint = connect(stage, ports=asked)

    def binding(proto: int, port: int, host_ip: str, first: int, last: int) -> dict[str, Any]:
        where = {"HostIP": host_ip, "HostPort": first, "HostPortEnd": last}
        return {"Proto": proto, "IP": "", "Port": port, **where}

    options = {
        "com.docker.network.portmap": [
            binding(6, 80, "127.0.0.1", 8080, 8080),
            binding(6, 7000, "", 7000, 7000),
            binding(6, 7001, "", 7001, 7001),
            binding(17, 53, "", 0, 0),
            binding(6, 90, "", 9000, 9009),
        ],
        "com.docker.network.endpoint.exposedports": [
            {"Proto": 6, "Port": 80},
            {"Proto": 6, "Port": 7000},
            {"Proto": 6, "Port": 7001},
            {"Proto": 17, "Port": 53},
            {"Proto": 6, "Port": 90},
        ],
    }
    for method in ("CreateEndpoint", "Join", "ProgramExternalConnectivity"):
        assert plugin.last(method)["Options"] == options
    assert (endpoint.port_requests, endpoint.ports) == (asked, ())


def test_ports_are_published_and_taken_back_on_a_live_endpoint(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    endpoint = connect(stage)
    plugin.calls.clear()

    stage.controller.publish("far/box", [tcp(80, 8080)])
    assert plugin.kept.programmed == {endpoint.id: [80]}
    stage.controller.publish("far/box", [tcp(90, 9090)])
    assert plugin.kept.programmed == {endpoint.id: [80, 90]}
    stage.controller.unpublish("far/box", [tcp(80)])
    assert plugin.kept.programmed == {endpoint.id: [90]}

    assert plugin.asked() == ["RevokeExternalConnectivity", "ProgramExternalConnectivity"] * 3
    assert stage.controller.endpoint("far/box").ports == ()


def test_ports_that_a_plugin_refuses_leave_those_from_before(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    endpoint = connect(stage, ports=(tcp(80, 8080),))
    before = stage.picture()
    plugin.script("NetworkDriver.ProgramExternalConnectivity", error("port is already allocated"))

    refused(lambda: stage.controller.publish("far/box", [tcp(90, 9090)]), PluginRefused)

    assert stage.picture() == before
    assert plugin.kept.programmed == {endpoint.id: [80]}


def test_a_host_port_of_somebody_else_is_not_given_up_with_a_plugins(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    network(stage)
    stage.network("web")
    stage.sandbox()
    web = connect(stage, "web", ports=(tcp(80),))
    host_port = web.ports[0].host_port
    connect(stage, "far", ports=(tcp(80, host_port),))

    stage.controller.unpublish("far/box", [tcp(80)])

    assert stage.reservations.socket_of(web.ports[0]) is not None


def test_a_plugin_from_before_ports_is_all_right(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    for method in ("ProgramExternalConnectivity", "RevokeExternalConnectivity"):
        plugin.script(f"NetworkDriver.{method}", Reply(b"404 page not found", 404))

    connect(stage, ports=(tcp(80, 8080),))
    stage.controller.disconnect("far", "box")

    assert plugin.kept.endpoints == set()


# Mistakes

CREATE, JOIN = "NetworkDriver.CreateEndpoint", "NetworkDriver.Join"

MISTAKES = {
    "modified address": (
        CREATE,
        answer(Interface={"Address": "10.9.0.2/24"}),
        "driver modified interface address",
    ),
    "bad address": (CREATE, answer(Interface={"AddressIPv6": "fd00::1"}), "invalid CIDR address: 'fd00::1'"),
    "other family": (CREATE, answer(Interface={"AddressIPv6": "10.0.0.1/8"}), "invalid CIDR address"),
    "bad mac": (CREATE, answer(Interface={"MacAddress": "nonsense"}), "invalid MAC address: nonsense"),
    "bad gateway": (JOIN, answer(Gateway="nowhere"), "failed to set gateway: 'nowhere' is no IP address"),
    "gateway of the other family": (JOIN, answer(GatewayIPv6="10.9.0.1"), "10.9.0.1 is no IPv6 address"),
    "bad route": (
        JOIN,
        answer(StaticRoutes=[{"Destination": "x", "RouteType": 1}]),
        "static route destination: 'x'",
    ),
    "empty route": (JOIN, answer(StaticRoutes=[{}]), "failed to parse static route destination: ''"),
    "bad route type": (
        JOIN,
        answer(StaticRoutes=[{"Destination": "10.0.0.0/8", "RouteType": 5}]),
        "invalid type 5",
    ),
    "bad next hop": (
        JOIN,
        answer(StaticRoutes=[{"Destination": "10.0.0.0/8"}]),
        "failed to parse next hop: ''",
    ),
    "bad link": (JOIN, answer(InterfaceName={"SrcName": "../etc"}), "invalid interface name '../etc'"),
    "long prefix": (
        JOIN,
        answer(InterfaceName={"SrcName": "v", "DstPrefix": "a" * 15}),
        "invalid interface name",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_bad_answer_is_rolled_back_and_said_so(stage: Stage, plugin: ScriptedPlugin, name: str) -> None:
    method, reply, words = MISTAKES[name]
    network(stage)
    stage.sandbox()
    before = stage.picture()
    plugin.calls.clear()
    plugin.script(method, reply)

    message = refused(lambda: connect(stage), CnmError)

    assert message.startswith(f"plugin lp: {method}: ")
    assert words in message
    assert message.endswith("; rolled back")
    undone = ["DeleteEndpoint"] if method == CREATE else ["Leave", "DeleteEndpoint"]
    assert plugin.asked("Leave", "DeleteEndpoint") == undone
    assert stage.picture() == before
    assert plugin.kept.endpoints == set()


def test_a_rollback_that_fails_is_said(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    plugin.script(CREATE, answer(Interface={"MacAddress": "nonsense"}))
    plugin.script("NetworkDriver.DeleteEndpoint", error("cannot"))

    message = refused(lambda: connect(stage), CnmError)

    assert message.endswith("; failed to roll back: plugin lp: NetworkDriver.DeleteEndpoint: cannot")


@pytest.mark.parametrize("reply", [error("no"), error("no", status=500), Reply(b"", 200), Reply(b"{", 200)])
def test_an_endpoint_that_the_plugin_refuses_is_not_there(
    stage: Stage, plugin: ScriptedPlugin, reply: Reply
) -> None:
    """What refuses has nothing to undo (dockerd's rule)."""
    network(stage)
    stage.sandbox()
    before = stage.picture()
    plugin.script(CREATE, reply)

    refused(lambda: connect(stage), PluginRefused)

    assert plugin.asked("Leave", "DeleteEndpoint", "Join") == []
    assert stage.picture() == before


def test_a_join_that_the_plugin_refuses_is_left_and_undone(stage: Stage, plugin: ScriptedPlugin) -> None:
    """As dockerd does after a failed join."""
    network(stage)
    stage.sandbox()
    before = stage.picture()
    plugin.script(JOIN, error("no"))

    message = refused(lambda: connect(stage), PluginRefused)

    assert message == "plugin lp: NetworkDriver.Join: no"
    assert plugin.asked("Leave", "DeleteEndpoint") == ["Leave", "DeleteEndpoint"]
    assert stage.picture() == before
    assert plugin.kept.endpoints == set()


def test_a_link_that_is_not_there_is_said_and_undone(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    before = stage.picture()
    plugin.make_link = lambda name: None

    message = refused(lambda: connect(stage), KernelError)

    assert "is not in the host's namespace: the program that owns it did not make it" in message
    assert plugin.asked("Leave", "DeleteEndpoint") == ["Leave", "DeleteEndpoint"]
    assert stage.picture() == before


def test_a_plugin_that_is_away_is_said(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    before = stage.picture()
    plugin.stop()

    message = refused(lambda: connect(stage), PluginAway)

    assert message.startswith("plugin lp: NetworkDriver.CreateEndpoint: cannot be reached: no such file")
    assert stage.picture() == before


def test_what_is_ours_goes_while_the_plugin_is_away(stage: Stage, plugin: ScriptedPlugin) -> None:
    """It is waited for once, not at each of the calls."""
    network(stage)
    stage.sandbox()
    connect(stage)
    plugin.stop()

    stage.controller.disconnect("far", "box")
    stage.controller.delete_network("far")

    assert set(links(stage)) == {"lo"}
    assert stage.controller.endpoints() == []
    assert stage.clock.pauses == [1, 2, 4, 8]


def test_a_plugin_that_hangs_holds_up_no_other_network(stage: Stage, plugin: ScriptedPlugin) -> None:
    """Not even while doctor waits for the verb that waits for it."""
    network(stage)
    stage.network("web")
    stage.sandbox()
    stage.sandbox("other")
    plugin.script("NetworkDriver.CreateEndpoint", Reply(b"{}", delay=3.0))
    hanging = threading.Thread(target=lambda: connect(stage))
    doctor = threading.Thread(target=stage.controller.doctor)
    hanging.start()
    while "CreateEndpoint" not in plugin.asked():
        pass
    doctor.start()

    connect(stage, "web", "other")

    assert hanging.is_alive()
    assert doctor.is_alive()
    hanging.join()
    doctor.join()


# Start-up


def test_a_restart_tells_nothing_and_finds_the_link(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    endpoint = connect(stage, ports=(tcp(80, 8080),))
    plugin.calls.clear()

    stage.restart()

    assert plugin.calls == []
    assert stage.controller.endpoint("far/box") == endpoint
    assert stage.controller.doctor() == []


def test_a_link_that_went_back_to_the_host_is_taken_again(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    stage.sandbox()
    connect(stage)
    (link,) = plugin.kept.links.values()
    stage.links()[link] = links(stage).pop("eth0")

    stage.restart()

    assert "eth0" in links(stage)
    assert stage.controller.doctor() == []


def test_a_link_that_is_gone_is_a_finding_and_keeps_nothing_else_from_being_mended(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    network(stage)
    stage.network("web")
    stage.sandbox()
    connect(stage)
    del links(stage)["eth0"]
    (bridge,) = (name for name in stage.links() if name.startswith("cnm-"))
    stage.restart()
    del stage.links()[bridge]

    message = refused(stage.controller.repair, KernelError)

    assert "is not in the host's namespace" in message
    assert bridge in stage.links()
    found = {finding.wanted for finding in stage.controller.doctor()}
    assert any(isinstance(record, Link) and record.name == "eth0" for record in found)
    stage.controller.disconnect("far", "box")
    assert stage.controller.doctor() == []


def test_a_link_that_a_reboot_took_is_made_anew(stage: Stage, plugin: ScriptedPlugin) -> None:
    network(stage)
    box = stage.sandbox()
    endpoint = connect(stage)
    stage.kernel.remove_namespace(box.netns)
    plugin.kept.links.clear()
    plugin.kept.programmed.clear()
    plugin.calls.clear()

    stage.restart()

    assert plugin.asked()[-3:] == ["Leave", "Join", "ProgramExternalConnectivity"]
    assert Route("0.0.0.0/0", "eth0", "10.9.0.1") in records(stage)
    assert set(plugin.kept.programmed) == {endpoint.id}
    assert stage.controller.doctor() == []
    assert stage.controller.endpoint("far/box") == endpoint == stage.store.load(Endpoint)[0]


def test_a_daemon_starts_while_the_plugin_is_away(stage: Stage, plugin: ScriptedPlugin) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    network(stage, ipam_driver="lp", ipam_config=())
    stage.sandbox()
    plugin.join_answer = {}
    endpoint = connect(stage)
    plugin.stop()

    stage.restart()
    assert stage.controller.endpoint("far/box") == endpoint

    plugin.start()
    plugin.kept.pools.clear()
    plugin.kept.addresses.clear()
    stage.sandbox("two")
    assert connect(stage, box="two").ipv4 == "10.77.1.3/24"


@pytest.mark.parametrize("state", [EndpointState.CONNECTING, EndpointState.DELETING])
def test_an_endpoint_that_a_crash_left_half_way_goes_from_the_plugin_too(
    stage: Stage, plugin: ScriptedPlugin, state: EndpointState
) -> None:
    network(stage, ipam_driver="lp", ipam_config=())
    stage.sandbox()
    plugin.join_answer = {}
    endpoint = connect(stage)
    _crash(stage, endpoint, state)

    assert stage.controller.endpoints() == []
    assert set(links(stage)) == {"lo"}
    assert not plugin.kept.endpoints
    assert not plugin.kept.joined
    assert f"here/10.77.1.0/24 {endpoint.ipv4.partition('/')[0]}" not in plugin.kept.addresses


@pytest.mark.parametrize("state", [EndpointState.JOINING, EndpointState.LEAVING])
def test_an_endpoint_that_a_crash_left_half_in_is_out(
    stage: Stage, plugin: ScriptedPlugin, state: EndpointState
) -> None:
    network(stage)
    stage.sandbox()
    endpoint = connect(stage)
    _crash(stage, endpoint, state)

    assert stage.controller.endpoint("far/box").state is EndpointState.CREATED
    assert set(links(stage)) == {"lo"}
    assert (plugin.kept.endpoints, plugin.kept.joined) == ({endpoint.id}, set())
    stage.controller.join("far/box", "box")
    assert "eth0" in links(stage)
    assert stage.controller.doctor() == []


def _crash(stage: Stage, endpoint: Endpoint, state: EndpointState) -> None:
    stage.store.commit(put=[msgspec.structs.replace(endpoint, state=state)], durable=False)
    stage.restart()


def test_a_network_that_a_crash_left_half_way_goes_from_the_plugin_too(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    made = network(stage, ipam_driver="lp", ipam_config=())
    stage.store.commit(put=[msgspec.structs.replace(made, state=NetworkState.DELETING)], durable=False)

    stage.restart()

    assert plugin.kept == Kept()


def test_a_sandbox_that_a_crash_left_half_way_lets_go_of_its_links(
    stage: Stage, plugin: ScriptedPlugin
) -> None:
    network(stage)
    box = stage.sandbox()
    connect(stage)
    deleting = msgspec.structs.replace(stage.controller.sandbox(box.id), state=SandboxState.DELETING)
    stage.store.commit(put=[deleting], durable=False)

    stage.restart()

    assert not plugin.kept.endpoints
    assert not plugin.kept.joined
    assert stage.controller.sandboxes() == []
