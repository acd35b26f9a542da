"""What dockerd takes for an answer: its types, and the rules that one answer can be held against alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any

import msgspec

from tests.support.fake_dockerd.client import Answer
from tests.support.fake_dockerd.errors import PluginError, ProtocolViolation, Rule

LinkExists = Callable[[str], bool]
Subnet = IPv4Network | IPv6Network

GATEWAY_DATA = "com.docker.network.gateway"
"""Key of a pool's data: the plugin has chosen the gateway with the pool."""

_NETWORK, _IPAM = "/NetworkDriver.", "/IpamDriver."


class _Interface(msgspec.Struct):
    Address: str | None = None
    AddressIPv6: str | None = None
    MacAddress: str | None = None


class _InterfaceName(msgspec.Struct):
    SrcName: str | None = None
    DstPrefix: str | None = None
    DstName: str | None = None


class _Route(msgspec.Struct):
    Destination: str | None = None
    RouteType: int | None = None
    NextHop: str | None = None


class _Activated(msgspec.Struct):
    Implements: list[str] | None = None


class _NetworkCapabilities(msgspec.Struct):
    Scope: str | None = None
    ConnectivityScope: str | None = None
    GwAllocChecker: bool | None = None


class _GatewayChecked(msgspec.Struct):
    SkipIPv4: bool | None = None
    SkipIPv6: bool | None = None


class _EndpointCreated(msgspec.Struct):
    Interface: _Interface | None = None


class _OperInfo(msgspec.Struct):
    Value: dict[str, Any] | None = None


class _Joined(msgspec.Struct):
    InterfaceName: _InterfaceName | None = None
    Gateway: str | None = None
    GatewayIPv6: str | None = None
    StaticRoutes: list[_Route] | None = None
    DisableGatewayService: bool | None = None


class _IpamCapabilities(msgspec.Struct):
    RequiresMACAddress: bool | None = None
    RequiresRequestReplay: bool | None = None


class _Spaces(msgspec.Struct):
    LocalDefaultAddressSpace: str | None = None
    GlobalDefaultAddressSpace: str | None = None


class _Pool(msgspec.Struct):
    PoolID: str | None = None
    Pool: str | None = None
    Data: dict[str, str] | None = None


class _Address(msgspec.Struct):
    Address: str | None = None
    Data: dict[str, str] | None = None


class _Errors(msgspec.Struct):
    Err: str | None = None
    Error: str | None = None


_TYPES: dict[str, type[msgspec.Struct]] = {
    "/Plugin.Activate": _Activated,
    "/NetworkDriver.GetCapabilities": _NetworkCapabilities,
    "/NetworkDriver.GwAllocCheck": _GatewayChecked,
    "/NetworkDriver.CreateEndpoint": _EndpointCreated,
    "/NetworkDriver.EndpointOperInfo": _OperInfo,
    "/NetworkDriver.Join": _Joined,
    "/IpamDriver.GetCapabilities": _IpamCapabilities,
    "/IpamDriver.GetDefaultAddressSpaces": _Spaces,
    "/IpamDriver.RequestPool": _Pool,
    "/IpamDriver.RequestAddress": _Address,
}
"""All other calls have empty answers."""


def read(path: str, answer: Answer) -> dict[str, Any]:
    """The document that a plugin answered; null values are left out, as Go leaves them at their zero.

    Raises PluginError where it is an error, ProtocolViolation where it is neither.
    """
    if answer.status != 200:
        raise PluginError(path, _failure_text(path, answer), answer.status)
    document = _document(path, answer.body)
    _check_types(path, document)
    if said := _said_error(path, document):
        raise PluginError(path, said, 200)
    return {key: value for key, value in document.items() if value is not None}


def _document(path: str, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ProtocolViolation(path, Rule.BODY, f"{body[:80]!r}: {error}") from None
    if document is not None and not isinstance(document, dict):
        raise ProtocolViolation(path, Rule.BODY, repr(body[:80]))
    return document or {}


def _check_types(path: str, document: dict[str, Any]) -> None:
    for record in (_TYPES.get(path, _Errors), _Errors):
        try:
            msgspec.convert(document, record)
        except msgspec.ValidationError as error:
            raise ProtocolViolation(path, Rule.TYPES, str(error)) from None


def _failure_text(path: str, answer: Answer) -> str:
    """Err of a JSON body, or the body as it is."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    said = document.get("Err") if isinstance(document, dict) else None
    text = said if isinstance(said, str) and said else answer.body.decode(errors="replace").strip()
    if not text:
        raise ProtocolViolation(path, Rule.ERROR_TEXT, f"status {answer.status}")
    return text


def _said_error(path: str, document: dict[str, Any]) -> str:
    right, wrong = ("Error", "Err") if path.startswith(_IPAM) else ("Err", "Error")
    if document.get(wrong):
        raise ProtocolViolation(path, Rule.ERROR_KEY, f"{wrong}: {document[wrong]}")
    return document.get(right) or ""


def accept_any_link(_name: str) -> bool:
    """Where no namespaces are looked at, every link exists."""
    return True


def check(
    path: str,
    request: dict[str, Any] | None,
    answer: dict[str, Any],
    link_exists: LinkExists = accept_any_link,
) -> None:
    """Raises ProtocolViolation where the answer to one call, read already, breaks a rule."""
    asked = request or {}
    match path:
        case "/NetworkDriver.GetCapabilities":
            _check_scopes(path, answer)
        case "/IpamDriver.RequestPool":
            _check_pool(path, asked, answer)
        case "/IpamDriver.RequestAddress":
            _check_address(path, asked, answer)
        case "/NetworkDriver.CreateEndpoint":
            _check_interface(path, asked.get("Interface") or {}, answer.get("Interface") or {})
        case "/NetworkDriver.Join":
            _check_link(path, answer.get("InterfaceName") or {}, link_exists)
            _check_gateways(path, answer)
            _check_routes(path, answer)


def check_implements(path: str, answer: dict[str, Any], wanted: str) -> None:
    """`wanted` is "NetworkDriver" or "IpamDriver"."""
    if wanted not in (answer.get("Implements") or []):
        raise ProtocolViolation(path, Rule.IMPLEMENTS, f"{wanted} is not in {answer.get('Implements')}")


def _check_scopes(path: str, answer: dict[str, Any]) -> None:
    if answer.get("Scope") not in ("local", "global"):
        raise ProtocolViolation(path, Rule.SCOPE, f"Scope: {answer.get('Scope')!r}")
    if answer.get("ConnectivityScope", "") not in ("local", "global", ""):
        raise ProtocolViolation(path, Rule.SCOPE, f"ConnectivityScope: {answer['ConnectivityScope']!r}")


def _check_pool(path: str, asked: dict[str, Any], answer: dict[str, Any]) -> None:
    if not answer.get("PoolID"):
        raise ProtocolViolation(path, Rule.POOL_ID, repr(answer))
    text = answer.get("Pool", "")
    try:
        pool = ip_network(text if "/" in text else f"{text}/none")
    except ValueError as error:
        raise ProtocolViolation(path, Rule.POOL_CIDR, str(error)) from None
    if pool.version != (6 if asked.get("V6") else 4):
        raise ProtocolViolation(path, Rule.POOL_FAMILY, text)
    if asked.get("Pool") and pool != ip_network(asked["Pool"], strict=False):
        raise ProtocolViolation(path, Rule.POOL_REQUESTED, f"{text} for {asked['Pool']}")
    gateway = (answer.get("Data") or {}).get(GATEWAY_DATA)
    if gateway is not None and interface(gateway) is None:
        raise ProtocolViolation(path, Rule.POOL_GATEWAY, gateway)


def _check_address(path: str, asked: dict[str, Any], answer: dict[str, Any]) -> None:
    text = answer.get("Address", "")
    address = interface(text)
    if address is None:
        raise ProtocolViolation(path, Rule.ADDRESS_CIDR, repr(text))
    if asked.get("Address") and address.ip != ip_address(asked["Address"]):
        raise ProtocolViolation(path, Rule.ADDRESS_REQUESTED, f"{text} for {asked['Address']}")


def interface(text: str) -> IPv4Interface | IPv6Interface | None:
    """An address with its prefix length, None where `text` is no CIDR notation."""
    try:
        return ip_interface(text) if "/" in text else None
    except ValueError:
        return None


def _check_interface(path: str, given: dict[str, Any], answered: dict[str, Any]) -> None:
    for key in ("Address", "AddressIPv6"):
        text = answered.get(key) or ""
        if text and interface(text) is None:
            raise ProtocolViolation(path, Rule.INTERFACE_ADDRESS, f"{key}: {text}")
        if text and given.get(key):
            raise ProtocolViolation(path, Rule.MODIFIED_ADDRESS, f"{text} for {given[key]}")
    mac = answered.get("MacAddress") or ""
    if mac and not _is_mac(mac):
        raise ProtocolViolation(path, Rule.INTERFACE_MAC, mac)
    if mac and given.get("MacAddress"):
        raise ProtocolViolation(path, Rule.MODIFIED_MAC, f"{mac} for {given['MacAddress']}")


def _is_mac(text: str) -> bool:
    octets = text.split(":")
    return len(octets) == 6 and all(len(o) == 2 and set(o.lower()) <= set("0123456789abcdef") for o in octets)


def _check_link(path: str, name: dict[str, Any], link_exists: LinkExists) -> None:
    source = name.get("SrcName") or ""
    if not source:
        return
    if not name.get("DstPrefix"):
        raise ProtocolViolation(path, Rule.LINK_PREFIX, source)
    if not link_exists(source):
        raise ProtocolViolation(path, Rule.LINK_EXISTS, source)


def _check_gateways(path: str, answer: dict[str, Any]) -> None:
    for key, version in (("Gateway", 4), ("GatewayIPv6", 6)):
        text = answer.get(key) or ""
        if text and _family(text) != version:
            raise ProtocolViolation(path, Rule.GATEWAY, f"{key}: {text}")


def _family(text: str) -> int:
    try:
        return ip_address(text).version
    except ValueError:
        return 0


def _check_routes(path: str, answer: dict[str, Any]) -> None:
    for route in answer.get("StaticRoutes") or []:
        destination = interface(route.get("Destination") or "")
        if destination is None:
            raise ProtocolViolation(path, Rule.ROUTE_DESTINATION, repr(route))
        if (route.get("RouteType") or 0) not in (0, 1):
            raise ProtocolViolation(path, Rule.ROUTE_TYPE, repr(route))
        hop = route.get("NextHop") or ""
        by_hop = not route.get("RouteType")
        if (hop or by_hop) and _family(hop) != destination.version:
            raise ProtocolViolation(path, Rule.ROUTE_NEXT_HOP, repr(route))
        gateway = "Gateway" if destination.version == 4 else "GatewayIPv6"
        if by_hop and destination.network.prefixlen == 0 and not answer.get(gateway):
            raise ProtocolViolation(path, Rule.ROUTE_DEFAULT, repr(route))


def check_reachable(path: str, answer: dict[str, Any], addresses: tuple[str, ...]) -> None:
    """dockerd looks up the way to a gateway in the sandbox before it sets the default route."""
    reachable = [ip_interface(text).network for text in addresses if text]
    for route in answer.get("StaticRoutes") or []:
        if route.get("RouteType") == 1:
            reachable.append(ip_network(route["Destination"], strict=False))
    for key in ("Gateway", "GatewayIPv6"):
        gateway = answer.get(key) or ""
        if gateway and not any(ip_address(gateway) in subnet for subnet in reachable):
            raise ProtocolViolation(path, Rule.GATEWAY_REACHABLE, f"{gateway} by {list(map(str, reachable))}")
