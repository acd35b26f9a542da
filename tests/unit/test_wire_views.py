"""Nouns as clients are shown them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from cnm.endpoint import Endpoint, PortMapping, Protocol
from cnm.events import Event
from cnm.kernel import state
from cnm.network import IpamConfig, Network, NetworkState, Pool
from cnm.sandbox import Sandbox, SandboxKind, SandboxState
from cnm.wire import codec, findings, views

_NETWORK = Network(
    id="4" * 64,
    name="web",
    driver="bridge",
    created="2026-01-02T03:04:05Z",
    state=NetworkState.ACTIVE,
    enable_ipv6=True,
    ipam_config=(IpamConfig(subnet="10.0.0.0/24"),),
    pools=(
        Pool(pool_id="p", subnet="10.0.0.0/24", gateway="10.0.0.1", aux_addresses={"r": "10.0.0.9"}),
        Pool(pool_id="q", subnet="fd00::/64", gateway="fd00::1", ip_range="fd00::/80"),
    ),
    options={"com.docker.network.driver.mtu": "1400"},
    labels={"team": "a"},
)
_SANDBOX = Sandbox(
    id="5" * 64,
    name="app",
    kind=SandboxKind.OWN,
    netns="/run/cnm/netns/5",
    created="2026-01-02T03:04:05Z",
    state=SandboxState.ACTIVE,
)
_ENDPOINT = Endpoint(
    id="e" * 64,
    name="ep",
    network_id=_NETWORK.id,
    mac="02:42:0a:00:00:02",
    ipv4="10.0.0.2/24",
    ipv6="fd00::2/64",
)


def _shown(record: object) -> Any:
    return json.loads(codec.encode(record))


def test_a_network_is_shown_with_exactly_dockers_keys() -> None:
    held = replace(_ENDPOINT, sandbox_id=_SANDBOX.id)

    shown = _shown(views.network(_NETWORK, views.containers([held, _ENDPOINT], {_SANDBOX.id: _SANDBOX})))

    addresses = {
        "EndpointID": "e" * 64,
        "MacAddress": "02:42:0a:00:00:02",
        "IPv4Address": "10.0.0.2/24",
        "IPv6Address": "fd00::2/64",
    }
    assert shown == {
        "Name": "web",
        "Id": "4" * 64,
        "Created": "2026-01-02T03:04:05Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": True,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [
                {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1", "AuxiliaryAddresses": {"r": "10.0.0.9"}},
                {"Subnet": "fd00::/64", "IPRange": "fd00::/80", "Gateway": "fd00::1"},
            ],
        },
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {"5" * 64: {"Name": "app", **addresses}, "ep-" + "e" * 64: {"Name": "ep", **addresses}},
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "Labels": {"team": "a"},
    }


def test_before_anything_is_allocated_a_network_shows_what_was_asked() -> None:
    shown = _shown(views.network(replace(_NETWORK, pools=()), {}))

    assert shown["IPAM"]["Config"] == [{"Subnet": "10.0.0.0/24"}]


@pytest.mark.parametrize(("modern", "config"), [(True, None), (False, [])])
def test_no_subnets_are_null_and_were_an_empty_list(modern: bool, config: list[str] | None) -> None:
    shown = _shown(views.network(replace(_NETWORK, pools=(), ipam_config=()), {}, modern=modern))

    assert shown["IPAM"]["Config"] == config


def test_address_counts_saturate_at_64_bits() -> None:
    status = views.network_status({"fd00::/8": (3, 2**120)})

    assert _shown(status) == {
        "IPAM": {"Subnets": {"fd00::/8": {"IPsInUse": 3, "DynamicIPsAvailable": 2**64 - 1}}}
    }


def test_a_port_whose_client_is_lost_says_so() -> None:
    port = PortMapping(protocol=Protocol.TCP, container_port=80, host_port=8080, host_address="::1", count=2)

    assert _shown(views.port(port, "through the relay")) == {
        "Protocol": "tcp",
        "ContainerPort": 80,
        "HostPort": 8080,
        "HostIp": "::1",
        "Count": 2,
        "Relay": True,
        "Note": "through the relay",
    }


def test_an_event_has_dockers_keys_and_both_times() -> None:
    event = Event(
        time_nano=1_700_000_000_123_456_789,
        type="network",
        action="create",
        id="4",
        attributes={"name": "web"},
    )

    assert _shown(views.event(event)) == {
        "Type": "network",
        "Action": "create",
        "Actor": {"ID": "4", "Attributes": {"name": "web"}},
        "scope": "local",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_123_456_789,
    }


@pytest.mark.parametrize(
    ("record", "kind", "text"),
    [
        (state.Namespace("/run/cnm/netns/1"), "namespace", "/run/cnm/netns/1"),
        (state.Link("cnm-1", state.LinkKind.BRIDGE), "link", "cnm-1"),
        (state.Address("cnm-1", "10.0.0.1/24"), "address", "10.0.0.1/24 on cnm-1"),
        (state.Route("0.0.0.0/0", "eth0", via="10.0.0.1"), "route", "0.0.0.0/0 via 10.0.0.1 on eth0"),
        (state.Route("10.0.0.0/24", "eth0"), "route", "10.0.0.0/24 on eth0"),
        (
            state.Neighbor("eth0", "10.0.0.1", "02:00:00:00:00:01"),
            "neighbor",
            "10.0.0.1 at 02:00:00:00:00:01 on eth0",
        ),
        (
            state.FdbEntry("vx1", "02:00:00:00:00:01", "192.0.2.1"),
            "fdb",
            "02:00:00:00:00:01 to 192.0.2.1 on vx1",
        ),
        (state.Sysctl("net/ipv4/ip_forward", "1"), "sysctl", "net/ipv4/ip_forward"),
        (
            state.FirewallElement(
                state.ElementSet(
                    "inet", "publish", (state.FieldType.INET_PROTO, state.FieldType.INET_SERVICE)
                ),
                ("tcp", 80),
            ),
            "element",
            "inet cnm publish { tcp . 80 }",
        ),
        (state.HostPort("tcp", "", 80), "port", "tcp *:80"),
    ],
)
def test_a_finding_names_its_kind_and_object(record: state.Record, kind: str, text: str) -> None:
    found = findings.finding(state.Finding("ns", state.Problem.MISSING, wanted=record, detail="why"))

    assert _shown(found) == {
        "Namespace": "ns",
        "Kind": kind,
        "Problem": "missing",
        "Object": text,
        "Detail": "why",
    }


def test_every_kind_of_kernel_record_can_be_shown() -> None:
    assert set(findings.RECORDS) == set(get_args(state.Record))
