"""The IPAM flags of `network create` as the API's configs: each range, gateway and address with its subnet."""

from __future__ import annotations

from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any


def ipam_configs(
    subnets: Sequence[str], ranges: Sequence[str], gateways: Sequence[str], auxiliary: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One config per subnet, in the order given. Raises InvalidParameter with Docker's texts.

    Only what decides where a value belongs is checked here; whether it is allowed is for the daemon to say.
    """
    if len(subnets) < max(len(ranges), len(gateways)):
        raise InvalidParameter("every ip-range or gateway must have a corresponding subnet")
    if len(subnets) == 1 and not ranges and not gateways and not auxiliary:
        return [{"Subnet": subnets[0]}]
    parsed = [_parse_subnet(subnet) for subnet in subnets]
    for at, network in enumerate(parsed):
        if any(network.version == other.version and network.overlaps(other) for other in parsed[:at]):
            raise InvalidParameter("multiple overlapping subnet configuration is not supported")
    configs: list[dict[str, Any]] = [{"Subnet": subnet} for subnet in subnets]
    for text in ranges:
        _place_once(configs, parsed, text, "IPRange", "range", "ranges ({}, {}) on the same subnet ({})")
    for text in gateways:
        _place_once(configs, parsed, text, "Gateway", "gateway", "gateways ({}, {}) for the same subnet ({})")
    for name, text in auxiliary.items():
        config = _owner(configs, parsed, text, "aux-address")
        config.setdefault("AuxiliaryAddresses", {})[name] = text
    return configs


def _place_once(
    configs: list[dict[str, Any]],
    parsed: Sequence[IPv4Network | IPv6Network],
    text: str,
    key: str,
    what: str,
    clash: str,
) -> None:
    config = _owner(configs, parsed, text, what)
    if key in config:
        raise InvalidParameter(
            "cannot configure multiple " + clash.format(text, config[key], config["Subnet"])
        )
    config[key] = text


def _owner(
    configs: list[dict[str, Any]], parsed: Sequence[IPv4Network | IPv6Network], text: str, what: str
) -> dict[str, Any]:
    from ipaddress import ip_address

    address, slash, _ = text.partition("/")
    if slash or what == "range":
        _parse_cidr(text)
    try:
        value = ip_address(address)
    except ValueError:
        value = None
    for config, network in zip(configs, parsed, strict=True):
        if value is not None and value in network:
            return config
    raise InvalidParameter(f"no matching subnet for {what} {text}")


def _parse_subnet(text: str) -> IPv4Network | IPv6Network:
    try:
        return _parse_cidr(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid subnet: {error}") from None


def _parse_cidr(text: str) -> IPv4Network | IPv6Network:
    from ipaddress import ip_network

    try:
        if not text.partition("/")[2].isdigit():
            raise ValueError
        return ip_network(text, strict=False)
    except ValueError:
        raise InvalidParameter(f"invalid CIDR address: {text}") from None
