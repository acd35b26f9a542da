"""Whatever is wrong in a request of dockerd's is said in one line, and nothing is changed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import InvalidParameter
from cnm.plugin import requests
from cnm.wire import plugin
from tests.support.plugin_calls import PATHS
from tests.unit.plugin_stage import (
    ENDPOINT,
    GENERIC,
    KEY,
    NETWORK,
    OTHER_ENDPOINT,
    OTHER_NETWORK,
    PORT_MAP,
    PluginStage,
    endpoint,
    joining,
    make_namespace,
    network,
    port,
)

MAC_OPTION = "com.docker.network.endpoint.macaddress"
LONG = "x" * 70_000


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginStage]:
    """A network with a running container, and a pool."""
    stage = PluginStage(Path(tmp_path_factory.mktemp("stage")))
    stage.say("RequestPool", AddressSpace="LocalDefault", Pool="10.66.0.0/24")
    stage.create_network()
    stage.create_endpoint()
    make_namespace(stage, KEY)
    stage.join()
    yield stage
    stage.end()


def encoded(mac: str) -> str:
    return base64.b64encode(bytes.fromhex(mac.replace(":", ""))).decode()


def other_network(**more: Any) -> Any:
    return {**network(OTHER_NETWORK, subnet="10.67.0.0/24"), **more}


def with_options(**options: Any) -> Any:
    given = {key.replace("__", "."): value for key, value in options.items()}
    return other_network(Options={**network()["Options"], **given})


def pools(*subnets: str, **more: Any) -> Any:
    return other_network(IPv4Data=[{"AddressSpace": "LocalDefault", "Pool": s, **more} for s in subnets])


def other_endpoint(**more: Any) -> Any:
    return endpoint(OTHER_ENDPOINT, "10.66.0.3/24", **more)


def interface(**more: str) -> Any:
    return {
        **other_endpoint(),
        "Interface": {"Address": "10.66.0.3/24", "AddressIPv6": "", "MacAddress": "", **more},
    }


def program(*ports: Any) -> Any:
    return {"NetworkID": NETWORK, "EndpointID": ENDPOINT, "Options": {PORT_MAP: list(ports)}}


NETWORKS = {
    "id-empty": (other_network(NetworkID=""), "invalid network id ''"),
    "id-null": (other_network(NetworkID=None), "invalid network id ''"),
    "id-short": (other_network(NetworkID="b" * 63), "64 hex digits"),
    "id-upper-case": (other_network(NetworkID="B" * 64), "64 hex digits"),
    "id-newline": (other_network(NetworkID="b" * 64 + "\n"), "64 hex digits"),
    "id-path": (other_network(NetworkID="../../etc"), "64 hex digits"),
    "id-long": (other_network(NetworkID=LONG), "64 hex digits"),
    "no-pools": (other_network(IPv4Data=[]), "needs IPv4 or IPv6"),
    "pools-null": (other_network(IPv4Data=None, IPv6Data=None), "needs IPv4 or IPv6"),
    "pool-empty": (pools(""), "a subnet is missing"),
    "pool-null": (other_network(IPv4Data=[{"AddressSpace": "null"}]), "a subnet is missing"),
    "pool-of-null-ipam": (pools("0.0.0.0/0"), "needs an IPAM driver that gives addresses"),
    "pool-host-bits": (pools("10.67.0.5/24"), "10.67.0.5/24"),
    "pool-no-cidr": (pools("10.67.0.0"), "10.67.0.0"),
    "pool-words": (pools("?"), "?"),
    "pool-loopback": (pools("127.0.0.0/8"), "loopback"),
    "pools-two": (pools("10.67.0.0/24", "10.68.0.0/24"), "multiple subnets"),
    "pools-same": (pools("10.67.0.0/24", "10.67.0.0/24"), "overlapping"),
    "pool-overlaps": (pools("10.66.0.128/25"), "overlaps with 10.66.0.0/24"),
    "pool-of-other-family": (
        other_network(IPv6Data=[{"Pool": "10.69.0.0/24", "AddressSpace": "x"}]),
        "an IPv6 one is wanted there",
    ),
    "gateway-outside": (pools("10.67.0.0/24", Gateway="10.68.0.1/24"), "gateway"),
    "gateway-words": (pools("10.67.0.0/24", Gateway="?"), "invalid gateway '?'"),
    "auxiliary-outside": (pools("10.67.0.0/24", AuxAddresses={"a": "10.68.0.1/24"}), "auxiliary address"),
    "auxiliary-words": (pools("10.67.0.0/24", AuxAddresses={"a": "?"}), "invalid a '?'"),
    "auxiliary-type": (pools("10.67.0.0/24", AuxAddresses={"a": 1}), "expected string"),
    "generic-list": (with_options(**{GENERIC: ["a"]}), "must hold options"),
    "generic-value": (
        with_options(**{GENERIC: {"com.docker.network.driver.mtu": 1400}}),
        "must hold options",
    ),
    "flag-text": (with_options(com__docker__network__internal="true"), "true or false"),
    "flag-number": (with_options(com__docker__network__enable_ipv6=1), "true or false"),
    "join-mode": (with_options(**{GENERIC: {"cnm.join": "sideways"}}), "moved or direct"),
    "option-unknown": (with_options(**{GENERIC: {"nosuch": "1"}}), "unknown option nosuch"),
    "option-newline": (with_options(**{GENERIC: {"no\nsuch": "1"}}), "unknown option"),
    "option-long": (with_options(**{GENERIC: {LONG: "1"}}), "unknown option"),
    "bridge-name": (
        with_options(**{GENERIC: {"com.docker.network.bridge.name": "a/b"}}),
        "interface name",
    ),
    "other-settings": (network(internal=True), "other settings"),
}
ENDPOINTS = {
    "id-empty": (other_endpoint() | {"EndpointID": ""}, "invalid endpoint id ''"),
    "network-empty": (other_endpoint() | {"NetworkID": ""}, "invalid network id ''"),
    "network-unknown": (other_endpoint(), ""),
    "address-words": (interface(Address="?"), "invalid address '?'"),
    "address-outside": (interface(Address="10.99.0.2/24"), "10.99.0.2"),
    "address-gateway": (interface(Address="10.66.0.1/24"), ""),
    "address-in-use": (interface(Address="10.66.0.2/24"), "in use"),
    "address-other-family": (interface(Address="fd66::2/64"), "fd66::2"),
    "address6-no-ipv6": (interface(AddressIPv6="fd66::2/64"), "fd66::2"),
    "address6-is-ipv4": (interface(AddressIPv6="10.66.0.4/24"), "10.66.0.4"),
    "mac-words": (interface(MacAddress="?"), "invalid MAC address"),
    "mac-multicast": (interface(MacAddress="01:00:5e:00:00:01"), "unicast"),
    "mac-base64": (other_endpoint(options={MAC_OPTION: "?"}), "base64"),
    "mac-short": (other_endpoint(options={MAC_OPTION: "AAAA"}), "MAC address"),
    "mac-number": (other_endpoint(options={MAC_OPTION: 5}), "base64"),
    "mac-list": (other_endpoint(options={MAC_OPTION: ["x"]}), "base64"),
    "macs-disagree": (
        other_endpoint(mac="02:aa:bb:cc:dd:ee", options={MAC_OPTION: encoded("02:aa:bb:cc:dd:ef")}),
        "disagree",
    ),
    "mac-in-use": (interface(MacAddress="02:42:0a:42:00:02"), "02:42:0a:42:00:02"),
    "option-unknown": (other_endpoint(options={"a.b": "c"}), "unknown endpoint option a.b"),
    "option-number": (other_endpoint(options={"a.b": 1}), "must be a text"),
    "option-ifname": (
        other_endpoint(options={"com.docker.network.endpoint.ifname": "up0"}),
        "has no effect here",
    ),
    "other-settings": (endpoint(ENDPOINT, "10.66.0.9/24"), "other settings"),
}
JOINS = {
    "key-empty": (joining(key=""), "invalid sandbox key ''"),
    "key-relative": (joining(key="netns/x"), "an absolute path"),
    "key-root": (joining(key="/"), "an absolute path"),
    "key-up": (joining(key="/var/../etc/x"), "an absolute path"),
    "key-nul": (joining(key="/a\0b"), "an absolute path"),
    "key-newline": (joining(key="/a\nb"), "an absolute path"),
    "key-long": (joining(key="/" + LONG), "an absolute path"),
    "endpoint-unknown": (joining(OTHER_ENDPOINT), "disconnect and connect"),
    "network-unknown": (joining(net=OTHER_NETWORK), "docker network rm, and create it again"),
    "ports-text": (joining() | {"Options": {PORT_MAP: "80"}}, "expected array, got string"),
}
PORTS = {
    "protocol": (program(port(80, Proto=1)), "protocol 1 cannot be published"),
    "container-zero": (program(port(0)), "invalid port binding"),
    "container-high": (program(port(65536)), "invalid port 65536"),
    "container-negative": (program(port(-1)), "invalid port -1"),
    "host-high": (program(port(80, 65536)), "invalid port 65536"),
    "range-backwards": (program(port(80, 8080, last=8070)), "invalid port binding"),
    "address-words": (program(port(80, HostIP="?")), "invalid host address '?'"),
    "address-name": (program(port(80, HostIP="localhost")), "invalid host address"),
    "port-text": (program(port(80) | {"Port": "80"}), "[0].Port: expected integer"),
    "port-fraction": (program(port(80) | {"Port": 0.5}), "[0].Port: expected integer"),
    "port-huge": (program(port(2**70)), ""),
    "binding-null": (program(None), "[0]: expected object, got null"),
    "endpoint-unknown": (program() | {"EndpointID": OTHER_ENDPOINT}, "disconnect and connect"),
}
POOLS = {
    "space-empty": ({"AddressSpace": ""}, "no name"),
    "space-unknown": ({"AddressSpace": "?"}, "cannot find address space ?"),
    "no-body": ({}, "no name"),
    "pool-words": ({"AddressSpace": "LocalDefault", "Pool": "?"}, "invalid CIDR"),
    "pool-family": ({"AddressSpace": "LocalDefault", "Pool": "10.9.0.0/24", "V6": True}, "IPv6"),
    "pool-overlaps": ({"AddressSpace": "LocalDefault", "Pool": "10.66.0.0/16"}, "overlaps"),
    "range-alone": ({"AddressSpace": "LocalDefault", "SubPool": "10.9.0.0/24"}, "it needs a pool"),
    "range-outside": (
        {"AddressSpace": "LocalDefault", "Pool": "10.9.0.0/24", "SubPool": "10.8.0.0/25"},
        "not in the pool",
    ),
    "size": ({"AddressSpace": "LocalDefault", "Pool": "0.0.0.0/3"}, "no default address pool"),
    "option-type": ({"AddressSpace": "LocalDefault", "Options": {"a": 1}}, "expected string"),
}
POOL_ID = "LocalDefault/10.66.0.0/24"
ADDRESSES = {
    "pool-missing": ({}, "a pool's id is missing"),
    "pool-unknown": ({"PoolID": "?"}, "cannot find address pool"),
    "address-words": ({"PoolID": POOL_ID, "Address": "?"}, "invalid address: ?"),
    "address-cidr": ({"PoolID": POOL_ID, "Address": "10.66.0.9/24"}, "invalid address"),
    "address-outside": ({"PoolID": POOL_ID, "Address": "10.99.0.9"}, "10.99.0.9"),
    "address-family": ({"PoolID": POOL_ID, "Address": "fd66::9"}, "fd66::9"),
    "address-of-the-subnet": ({"PoolID": POOL_ID, "Address": "10.66.0.0"}, "in use"),
}
REFUSED = {
    f"{method}-{name}": (method, body, text)
    for method, cases in {
        "CreateNetwork": NETWORKS,
        "CreateEndpoint": {n: case for n, case in ENDPOINTS.items() if case[1]},
        "Join": JOINS,
        "ProgramExternalConnectivity": PORTS,
        "RequestPool": POOLS,
        "RequestAddress": ADDRESSES,
        "DeleteNetwork": {"id": ({"NetworkID": "?"}, "invalid network id '?'")},
        "DeleteEndpoint": {"id": ({"EndpointID": "?"}, "invalid endpoint id '?'")},
        "Leave": {"id": ({"EndpointID": ""}, "invalid endpoint id ''")},
        "RevokeExternalConnectivity": {"id": ({}, "invalid endpoint id ''")},
        "AllocateNetwork": {"always": ({"NetworkID": NETWORK}, "not built: use docker network create")},
        "GwAllocCheck": {
            "option": ({"Options": {GENERIC: {"nosuch": "1"}}}, "unknown option nosuch"),
            "flag": ({"Options": {"com.docker.network.internal": "yes"}}, "true or false"),
        },
    }.items()
    for name, (body, text) in cases.items()
}


@pytest.mark.parametrize(("method", "body", "text"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_request_is_refused_in_one_line_and_changes_nothing(
    stage: PluginStage, method: str, body: Any, text: str
) -> None:
    before = stage.picture()

    refusal = stage.refused(method, **body)

    assert text in refusal
    assert len(refusal) <= 1001
    assert stage.picture() == before


NEED_NOTHING = {
    "/Plugin.Activate",
    "/NetworkDriver.GetCapabilities",
    "/NetworkDriver.GwAllocCheck",
    "/NetworkDriver.FreeNetwork",
    "/NetworkDriver.EndpointOperInfo",
    "/NetworkDriver.DiscoverNew",
    "/NetworkDriver.DiscoverDelete",
    "/IpamDriver.GetCapabilities",
    "/IpamDriver.GetDefaultAddressSpaces",
    "/IpamDriver.ReleasePool",
    "/IpamDriver.ReleaseAddress",
}
"""Of the other methods an attempt of dockerd's to say it again, whose body was read already, must be refused."""


@pytest.mark.parametrize("path", PATHS)
def test_a_request_that_lost_its_body_changes_nothing(stage: PluginStage, path: str) -> None:
    before = stage.picture()

    answer = stage.ask(path, b"")

    assert (answer.status == 200) is (path in NEED_NOTHING)
    assert "internal error" not in answer.document.get("Err", "")
    assert stage.picture() == before


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "com.docker.network.endpoint.exposedports": "?",
            "com.docker.network.endpoint.dnsservers": ["1.1.1.1"],
        },
        {MAC_OPTION: ""},
        {"com.docker.network.driver.private.no_proxy_6to4": True},
    ],
)
def test_options_of_dockerds_own_are_no_users(options: dict[str, Any]) -> None:
    body = plugin.CreateEndpoint(network_id=NETWORK, endpoint_id=ENDPOINT, options=options)

    assert requests.endpoint_request(body).options == {}


def test_a_mac_is_read_from_both_places() -> None:
    mac = "02:aa:bb:cc:dd:ee"
    options = {MAC_OPTION: encoded(mac)}
    both = plugin.Interface(mac_address=mac.upper())

    for given, more in ((both, options), (both, {}), (None, options)):
        body = plugin.CreateEndpoint(endpoint_id=ENDPOINT, interface=given, options=more)
        assert requests.endpoint_request(body).mac == mac


@pytest.mark.parametrize(
    ("binding", "wanted"),
    [
        (port(80), ("tcp", 80, 0, 0, "")),
        (port(80, 8080), ("tcp", 80, 8080, 0, "")),
        (port(80, 8080, last=8090), ("tcp", 80, 8080, 8090, "")),
        (port(53, 53, Proto=17, HostIP="127.0.0.1"), ("udp", 53, 53, 0, "127.0.0.1")),
        (port(53, 53, Proto=132, HostIP="FD66::1"), ("sctp", 53, 53, 0, "fd66::1")),
        ({"Proto": 6, "Port": 80}, ("tcp", 80, 0, 0, "")),
        ({"Proto": 6, "Port": 80, "HostIP": None, "IP": None}, ("tcp", 80, 0, 0, "")),
    ],
)
def test_ports_are_read_as_dockerd_writes_them(binding: Any, wanted: tuple[Any, ...]) -> None:
    (read,) = requests.ports({PORT_MAP: [binding]})

    assert (
        read.protocol,
        read.container_port,
        read.host_port,
        read.host_port_end,
        read.host_address,
    ) == wanted


def test_no_ports_are_read_where_none_are() -> None:
    for options in (None, {}, {PORT_MAP: None}, {PORT_MAP: []}):
        assert requests.ports(options) == ()


def test_a_network_is_read_with_everything_that_dockerd_says() -> None:
    body = plugin.CreateNetwork(
        network_id=NETWORK,
        options={
            plugin.ENABLE_IPV4: True,
            plugin.ENABLE_IPV6: True,
            plugin.INTERNAL: True,
            plugin.GENERIC: {"cnm.join": "direct", "cnm.guard": "false"},
        },
        ipv4_data=[
            plugin.PoolData(pool="10.1.0.0/24", gateway="10.1.0.1/24", aux_addresses={"a": "10.1.0.9/24"})
        ],
        ipv6_data=[plugin.PoolData(pool="fd01::/64")],
    )

    read = requests.network_request(body, "bridge")

    assert (read.id, read.name, read.driver, read.internal, read.direct) == (
        NETWORK,
        f"docker-{NETWORK[:12]}",
        "bridge",
        True,
        True,
    )
    assert (read.enable_ipv4, read.enable_ipv6, read.options) == (True, True, {"cnm.guard": "false"})
    assert [(c.subnet, c.gateway, c.aux_addresses) for c in read.ipam_config] == [
        ("10.1.0.0/24", "10.1.0.1", {"a": "10.1.0.9"}),
        ("fd01::/64", "", {}),
    ]


@pytest.mark.parametrize(("mode", "direct"), [("", None), ("moved", False), ("direct", True)])
def test_how_links_get_in_is_the_networks_to_say(mode: str, direct: bool | None) -> None:
    options = {plugin.GENERIC: {"cnm.join": mode} if mode else {}}
    data = [plugin.PoolData(pool="10.1.0.0/24")]
    body = plugin.CreateNetwork(network_id=NETWORK, options=options, ipv4_data=data)

    assert requests.network_request(body, "bridge").direct is direct


@pytest.mark.parametrize("key", ["/var/run/docker/netns/0123456789ab", "/run/a b", "/run/é"])
def test_a_sandbox_key_is_any_absolute_path(key: str) -> None:
    assert requests.sandbox_key(key) == key


def test_a_wrong_id_is_shown_shortened() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        requests.checked_id("network", LONG)

    assert len(str(refusal.value)) < 200
