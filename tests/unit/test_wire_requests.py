"""What clients ask for becomes requests to the model; values that are wrong by themselves are refused."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.endpoint import EndpointRequest, PortRequest, Protocol
from cnm.errors import InvalidParameter, NotBuilt
from cnm.network import IpamConfig, NetworkRequest
from cnm.wire import engine, requests


def _network(**settings: Any) -> NetworkRequest:
    return requests.network_request(engine.NetworkCreate(**{"name": "web", **settings}))


def _endpoint(**settings: Any) -> EndpointRequest:
    return requests.endpoint_request(engine.EndpointSettings(**settings))


def _port(**settings: Any) -> PortRequest:
    return requests.port_requests([engine.PortRequest(**{"container_port": 80, **settings})])[0]


def test_a_network_of_nothing_but_a_name_gets_dockers_defaults() -> None:
    assert _network() == NetworkRequest(name="web")


def test_all_settings_of_a_network_are_carried_over() -> None:
    request = _network(
        driver="bridge",
        scope="local",
        enable_ipv4=False,
        enable_ipv6=True,
        internal=True,
        attachable=True,
        ipam=engine.Ipam(
            driver="null",
            options={"o": "1"},
            config=[
                engine.IpamConfig(
                    subnet="10.0.0.0/24",
                    ip_range="10.0.0.0/25",
                    gateway="10.0.0.1",
                    auxiliary_addresses={"router": "10.0.0.9"},
                )
            ],
        ),
        options={"k": "v"},
        labels={"l": "w"},
    )

    assert request == NetworkRequest(
        name="web",
        scope="local",
        enable_ipv4=False,
        enable_ipv6=True,
        internal=True,
        attachable=True,
        ipam_driver="null",
        ipam_options={"o": "1"},
        ipam_config=(
            IpamConfig(
                subnet="10.0.0.0/24",
                ip_range="10.0.0.0/25",
                gateway="10.0.0.1",
                aux_addresses={"router": "10.0.0.9"},
            ),
        ),
        options={"k": "v"},
        labels={"l": "w"},
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ingress": True}, "ingress networks are not built"),
        ({"config_only": True}, "ConfigOnly"),
        ({"config_from": engine.ConfigReference(network="base")}, "ConfigFrom"),
        ({"scope": "swarm"}, "scope 'swarm'"),
        ({"scope": "global"}, "scope 'global'"),
    ],
)
def test_features_of_networks_that_are_not_built_are_refused_by_name(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(NotBuilt, match=words):
        _network(**settings)


@pytest.mark.parametrize("name", ["test@#$", "kiwl$%^", "a b", "ünï", "0"])
def test_unusual_names_are_taken(name: str) -> None:
    assert _network(name=name).name == name


@pytest.mark.parametrize("name", [None, "", "  ", "a/b", "a\nb", "a\x00", "n" * 256])
def test_names_that_would_break_references_are_refused(name: str | None) -> None:
    with pytest.raises(InvalidParameter, match="name"):
        _network(name=name)


def test_an_endpoint_of_nothing_gets_everything_chosen() -> None:
    assert requests.endpoint_request(None) == EndpointRequest()


def test_all_settings_of_an_endpoint_are_carried_over() -> None:
    request = requests.endpoint_request(
        engine.EndpointSettings(
            ipam_config=engine.EndpointIpamConfig(ipv4_address="10.0.0.2", ipv6_address="FD00::2"),
            aliases=["db", "db", "store"],
            mac_address="02-42-AC-11-00-02",
            driver_opts={"k": "v"},
            gw_priority=-5,
            if_name="lan0",
            ports=[engine.PortRequest(container_port=80)],
        ),
        "ep",
    )

    assert request == EndpointRequest(
        name="ep",
        ipv4="10.0.0.2",
        ipv6="fd00::2",
        mac="02:42:ac:11:00:02",
        ifname="lan0",
        aliases=("db", "store"),
        gw_priority=-5,
        options={"k": "v"},
        ports=(PortRequest(container_port=80),),
    )


def test_dockers_option_for_the_interface_name_is_taken_for_the_name() -> None:
    request = _endpoint(driver_opts={"com.docker.network.endpoint.ifname": "lan0", "other": "x"})

    assert (request.ifname, request.options) == ("lan0", {"other": "x"})


def test_two_different_interface_names_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="conflicting interface names"):
        _endpoint(if_name="a0", driver_opts={requests.IFNAME_OPTION: "b0"})


@pytest.mark.parametrize("name", ["a" * 16, "a b", "a/b", "..", "a:1", "a\n", "café"])
def test_interface_names_that_the_kernel_refuses_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid interface name"):
        _endpoint(if_name=name)


@pytest.mark.parametrize("address", ["1.2.3", "1.2.3.4/24", "fd00::1", "one", "1.2.3.4 "])
def test_malformed_ipv4_addresses_are_refused_in_dockers_words(address: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid IPv4 address: "):
        _endpoint(ipam_config=engine.EndpointIpamConfig(ipv4_address=address))


@pytest.mark.parametrize("address", ["fd00::g", "10.0.0.1", "fe80::1%eth0", "fd00::1/64"])
def test_malformed_ipv6_addresses_are_refused_in_dockers_words(address: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid IPv6 address: "):
        _endpoint(ipam_config=engine.EndpointIpamConfig(ipv6_address=address))


@pytest.mark.parametrize("mac", ["02:42:AC:11:00:02", "02-42-ac-11-00-02", "0242.ac11.0002"])
def test_every_notation_of_a_mac_becomes_colons(mac: str) -> None:
    assert requests.mac_address(mac) == "02:42:ac:11:00:02"


@pytest.mark.parametrize(
    "mac",
    ["02:42:ac:11:00", "02:42-ac:11:00:02", "zz:42:ac:11:00:02", "01:00:5e:00:00:01", "00:00:00:00:00:00"],
)
def test_malformed_multicast_and_zero_macs_are_refused(mac: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid MAC address"):
        _endpoint(mac_address=mac)


def test_links_have_a_name_and_maybe_an_alias() -> None:
    assert _endpoint(links=["db:Database", "cache"]).links == (("db", "Database"), ("cache", "cache"))


@pytest.mark.parametrize("link", ["", ":x", "db:", "db:a:b", "db:a b"])
def test_what_is_no_link_is_refused(link: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid link format|invalid alias"):
        _endpoint(links=[link])


def test_link_local_addresses_are_refused_by_name() -> None:
    with pytest.raises(NotBuilt, match="LinkLocalIPs"):
        _endpoint(ipam_config=engine.EndpointIpamConfig(link_local_ips=["169.254.1.1"]))


@pytest.mark.parametrize("alias", ["", "a b", "a\tb"])
def test_aliases_that_are_no_host_names_are_refused(alias: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid alias"):
        _endpoint(aliases=[alias])


def test_a_gateway_priority_beyond_32_bits_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid gateway priority"):
        _endpoint(gw_priority=2**31)


def test_a_port_range_is_carried_over() -> None:
    port = _port(protocol="UDP", container_port_end=82, host_port=8080, host_port_end=8082, host_ip="::0")

    assert port == PortRequest(
        protocol=Protocol.UDP,
        container_port=80,
        container_port_end=82,
        host_port=8080,
        host_port_end=8082,
        host_address="::",
    )


def test_one_port_may_take_any_of_a_range_of_the_host() -> None:
    assert _port(host_port=8000, host_port_end=8010).host_port_end == 8010


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"container_port": 0}, "invalid container port 0: it must be 1 to 65535"),
        ({"container_port": 65536}, "invalid container port 65536: it must be 1 to 65535"),
        ({"host_port": -1}, "invalid host port -1: it must be 0 to 65535"),
        ({"host_port": 70000}, "invalid host port 70000: it must be 0 to 65535"),
        ({"container_port_end": 79}, "invalid container ports 80-79: the end lies before the start"),
        ({"host_port_end": 90}, "invalid host port 0: it must be 1 to 65535"),
        (
            {"container_port_end": 82, "host_port": 1, "host_port_end": 2},
            "invalid ports: 1-2 on the host and 80-82 in the sandbox differ in number",
        ),
        ({"protocol": "icmp"}, "invalid protocol 'icmp': it must be tcp, udp or sctp"),
        (
            {"host_ip": "localhost"},
            "invalid host address 'localhost': give an IPv4 or IPv6 address of the host",
        ),
        (
            {"host_ip": "fe80::1%1"},
            "invalid host address 'fe80::1%1': give an IPv4 or IPv6 address of the host",
        ),
    ],
)
def test_wrong_ports_are_refused_with_the_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        _port(**settings)

    assert str(refused.value) == message


@pytest.mark.parametrize("path", ["netns/x", "./x", "/run/netns/\n"])
def test_a_namespace_path_must_be_absolute(path: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid namespace path"):
        requests.netns_path(path)
