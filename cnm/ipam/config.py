"""What a user wrote about subnets and addresses, checked before anything is allocated.

Every check collects faults; all that is wrong is said at once, in Docker's words but in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from cnm.errors import InvalidParameter
from cnm.ipam.cidr import Address, Subnet, parse_address, parse_cidr
from cnm.network import IpamConfig, Network, Pool


def validate_ipam(configs: Sequence[IpamConfig], *, ipv4: bool, ipv6: bool) -> None:
    """Raises InvalidParameter naming every fault. Subnets of a family that is off are ignored (Docker)."""
    faults: list[str] = []
    subnets: list[Subnet] = []
    for config in configs:
        if not config.subnet:
            faults += _subnet_missing(config)
            continue
        try:
            written = parse_cidr(config.subnet)
        except ValueError:
            faults.append(f"invalid subnet {config.subnet}: invalid CIDR block notation")
            continue
        if not (ipv6 if written.version == 6 else ipv4):
            continue
        if written.ip != written.network.network_address:
            faults.append(f"invalid subnet {config.subnet}: it should be {written.network}")
        subnets.append(written.network)
        faults += [
            *_ip_range_faults(config.ip_range, written.network),
            *_gateway_faults(config, written.network),
            *_auxiliary_faults(config, written.network),
        ]
    faults += _overlaps(subnets)
    if faults:
        raise InvalidParameter(f"invalid network config: {'; '.join(faults)}")


def validate_endpoint_addresses(network: Network, ipv4: str, ipv6: str) -> None:
    """Addresses are bare text, "" where none is asked for. Raises InvalidParameter naming each bad one."""
    faults = [
        *_endpoint_faults(ipv4, 4, network.pools_v4()),
        *_endpoint_faults(ipv6, 6, network.pools_v6()),
    ]
    if faults:
        raise InvalidParameter(f"invalid config for network {network.name}: {'; '.join(faults)}")


def _subnet_missing(config: IpamConfig) -> Iterator[str]:
    for what, value in (("ip-range", config.ip_range), ("gateway", config.gateway)):
        if value:
            yield f"every ip-range or gateway must have a corresponding subnet: {what} {value}"
    for address in config.aux_addresses.values():
        yield f"no matching subnet for aux-address {address}"


def _ip_range_faults(text: str, subnet: Subnet) -> Iterator[str]:
    if not text:
        return
    try:
        written = parse_cidr(text)
    except ValueError:
        yield f"invalid ip-range {text}: invalid CIDR block notation"
        return
    ip_range = written.network
    if ip_range.version != subnet.version:
        yield f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"
        return
    if ip_range.prefixlen < subnet.prefixlen:
        yield f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
    if written.ip != ip_range.network_address:
        yield f"invalid ip-range {text}: it should be {ip_range}"
    if not subnet.overlaps(ip_range):
        yield f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"


def _gateway_faults(config: IpamConfig, subnet: Subnet) -> Iterator[str]:
    if config.gateway and (fault := _address_fault(config.gateway, subnet)):
        yield f"invalid gateway {config.gateway}: {fault}"


def _auxiliary_faults(config: IpamConfig, subnet: Subnet) -> Iterator[str]:
    taken: dict[Address | None, str] = {_parsed(config.gateway): "the gateway"}
    for name, text in config.aux_addresses.items():
        address = _parsed(text)
        fault = _address_fault(text, subnet)
        if fault is None and address in taken:
            fault = f"{text} is {taken[address]} already"
        if fault:
            yield f"invalid auxiliary address {name}: {fault}"
        taken[address] = f"auxiliary address {name}"


def _address_fault(text: str, subnet: Subnet) -> str | None:
    address = _parsed(text)
    if address is None:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return None if address in subnet else f"parent subnet {subnet} doesn't contain this address"


def _overlaps(subnets: Sequence[Subnet]) -> Iterator[str]:
    """0.0.0.0/N and ::/N mean any subnet of that size, so two of them are no clash."""
    given = [subnet for subnet in subnets if not subnet.network_address.is_unspecified]
    for one, other in combinations(given, 2):
        if one.overlaps(other):
            yield f"multiple overlapping subnet configuration is not supported: {one} and {other}"


def _endpoint_faults(text: str, version: int, pools: Sequence[Pool]) -> Iterator[str]:
    if not text:
        return
    address = _parsed(text)
    if address is None or address.version != version or address.is_unspecified:
        yield f"invalid IPv{version} address: {text}"
    elif not any(address in parse_cidr(pool.subnet).network for pool in pools):
        yield f"no configured subnet contains IP address {text}"


def _parsed(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None
