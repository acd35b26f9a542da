"""Every rule that the fake dockerd holds a plugin to is broken once, and noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_dockerd import Attachment, FakeDockerd, ProtocolViolation, Rule
from tests.support.minimal_plugin import MinimalPlugin, serve

POOL, ADDRESS = "/IpamDriver.RequestPool", "/IpamDriver.RequestAddress"
CREATE, JOIN = "/NetworkDriver.CreateEndpoint", "/NetworkDriver.Join"
CAPABILITIES = "/NetworkDriver.GetCapabilities"

_ROUTE = {"Destination": "198.18.0.0/24", "RouteType": 1, "NextHop": ""}


def _interface(**fields: str) -> dict[str, Any]:
    return {"Interface": fields}


def _routes(**fields: Any) -> dict[str, Any]:
    return {"StaticRoutes": [{**_ROUTE, **fields}]}


_BROKEN: list[tuple[Rule, str, Any]] = [
    (Rule.BODY, POOL, b""),
    (Rule.BODY, "/NetworkDriver.CreateNetwork", b"[]\n"),
    (Rule.BODY, CREATE, b"{"),
    (Rule.TYPES, ADDRESS, {"Address": 5}),
    (Rule.TYPES, JOIN, {"Gateway": ["10.0.0.1"]}),
    (Rule.TYPES, JOIN, {"StaticRoutes": [{"RouteType": "1"}]}),
    (Rule.TYPES, "/NetworkDriver.EndpointOperInfo", {"Value": []}),
    (Rule.TYPES, "/NetworkDriver.CreateNetwork", {"Err": 1}),
    (Rule.ERROR_KEY, ADDRESS, {"Err": "address in use"}),
    (Rule.ERROR_KEY, JOIN, {"Error": "no such endpoint"}),
    (Rule.ERROR_TEXT, JOIN, (500, b"")),
    (Rule.IMPLEMENTS, "/Plugin.Activate", {"Implements": ["NetworkDriver"]}),
    (Rule.SCOPE, CAPABILITIES, {"Scope": "swarm"}),
    (Rule.SCOPE, CAPABILITIES, {"Scope": "local", "ConnectivityScope": "everywhere"}),
    (Rule.POOL_ID, POOL, {"PoolID": ""}),
    (Rule.POOL_CIDR, POOL, {"Pool": "10.1.0.0"}),
    (Rule.POOL_CIDR, POOL, {"Pool": "10.1.0.1/24"}),
    (Rule.POOL_FAMILY, POOL, {"Pool": "fd01::/64"}),
    (Rule.POOL_REQUESTED, POOL, {"Pool": "10.2.0.0/24"}),
    (Rule.POOL_OVERLAP, POOL, lambda asked: {} if asked["Pool"] else {"Pool": "10.1.0.0/25"}),
    (Rule.POOL_GATEWAY, POOL, {"Data": {"com.docker.network.gateway": "10.1.0.1"}}),
    (Rule.ADDRESS_CIDR, ADDRESS, {"Address": ""}),
    (Rule.ADDRESS_CIDR, ADDRESS, {"Address": "10.1.0.1"}),
    (Rule.ADDRESS_POOL, ADDRESS, {"Address": "10.9.0.1/24"}),
    (Rule.ADDRESS_POOL, ADDRESS, {"Address": "10.1.0.1/16"}),
    (Rule.ADDRESS_REQUESTED, ADDRESS, lambda asked: {"Address": "10.1.0.8/24"} if asked["Address"] else {}),
    (Rule.ADDRESS_FREE, ADDRESS, lambda asked: {} if asked["Address"] else {"Address": "10.1.0.1/24"}),
    (Rule.INTERFACE_ADDRESS, CREATE, _interface(AddressIPv6="fd01::2")),
    (Rule.INTERFACE_MAC, CREATE, _interface(MacAddress="02:42")),
    (Rule.MODIFIED_ADDRESS, CREATE, _interface(Address="10.1.0.9/24")),
    (Rule.MODIFIED_MAC, CREATE, _interface(MacAddress="02:42:0a:01:00:09")),
    (Rule.LINK_EXISTS, JOIN, {"InterfaceName": {"SrcName": "gone", "DstPrefix": "eth"}}),
    (Rule.LINK_PREFIX, JOIN, {"InterfaceName": {"SrcName": "cv0", "DstPrefix": ""}}),
    (Rule.GATEWAY, JOIN, {"Gateway": "10.1.0.1/24"}),
    (Rule.GATEWAY, JOIN, {"GatewayIPv6": "10.1.0.1"}),
    (Rule.GATEWAY_REACHABLE, JOIN, {"Gateway": "10.2.0.1"}),
    (Rule.ROUTE_DESTINATION, JOIN, _routes(Destination="")),
    (Rule.ROUTE_TYPE, JOIN, _routes(RouteType=2)),
    (Rule.ROUTE_NEXT_HOP, JOIN, _routes(RouteType=0)),
    (Rule.ROUTE_NEXT_HOP, JOIN, _routes(NextHop="somewhere")),
    (
        Rule.ROUTE_DEFAULT,
        JOIN,
        {"Gateway": "", **_routes(Destination="0.0.0.0/0", RouteType=0, NextHop="10.1.0.1")},
    ),
    (Rule.ROUTE_REPEATED, JOIN, _routes()),
]


def _breaking(path: str, wrong: Any) -> Callable[[str, dict[str, Any], Any], Any]:
    """Answers `wrong` at `path`: bytes, a status with bytes, or keys laid over the right answer."""

    def tamper(asked_path: str, request: dict[str, Any], right: Any) -> Any:
        if asked_path != path:
            return right
        said = wrong(request) if callable(wrong) else wrong
        return {**(right or {}), **said} if isinstance(said, dict) else said

    return tamper


def _use_everything(dockerd: FakeDockerd) -> None:
    """Networks with a pool of the user's and one of the plugin's, endpoints with and without the user's wishes."""
    dockerd.network_create("web", subnets=["10.1.0.0/24"])
    dockerd.run("c1", "web", attachment=Attachment(ip="10.1.0.7", mac="02:00:00:00:00:01"))
    dockerd.run("c2", "web")
    dockerd.network_create("chosen")
    dockerd.connect("chosen", "c1")


@pytest.mark.parametrize(("rule", "path", "wrong"), _BROKEN)
def test_a_broken_rule_is_noticed_by_its_name(rule: Rule, path: str, wrong: Any, tmp_path: Path) -> None:
    plugin, socket = MinimalPlugin(), tmp_path / "cnm.sock"
    plugin.tamper = _breaking(path, wrong)
    with serve(plugin, socket):
        dockerd = FakeDockerd(
            "29.7", socket, netns=tmp_path / "netns", link_exists=lambda name: name != "gone"
        )

        with pytest.raises(ProtocolViolation) as violation:
            _use_everything(dockerd)

        dockerd.daemon_kill()
    assert (violation.value.rule, violation.value.path) == (rule, path)


@pytest.mark.parametrize("version", ["20.10", "28.5", "29.7"])
def test_right_answers_break_no_rule(version: str, tmp_path: Path) -> None:
    socket = tmp_path / "cnm.sock"
    with serve(MinimalPlugin(), socket):
        dockerd = FakeDockerd(version, socket, netns=tmp_path / "netns")

        _use_everything(dockerd)

        dockerd.daemon_stop()
    assert not any(call.error for call in dockerd.calls)


def test_every_rule_is_broken_by_a_test() -> None:
    assert {rule for rule, _, _ in _BROKEN} == set(Rule)
