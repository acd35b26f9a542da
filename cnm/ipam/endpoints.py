"""The addresses of an endpoint: one of each family its network has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from cnm.ipam.cidr import parse_address, parse_cidr
from cnm.ipam.config import validate_endpoint_addresses
from cnm.ipam.contract import ENDPOINT_MAC, ENDPOINT_NAME, SERIAL, Ipam, PoolExhausted
from cnm.ipam.networks import try_release
from cnm.network import Network, Pool


def allocate_endpoint(
    ipam: Ipam, network: Network, ipv4: str = "", ipv6: str = "", mac: str = "", *, name: str = ""
) -> tuple[str, str]:
    """Take the addresses asked for (bare text), or free ones, from the network's pools in their order.

    Returns CIDR texts, "" for a family without addresses. On failure nothing stays taken. `mac` and `name`
    are passed to IPAMs that want them. Raises InvalidParameter, AddressInUse, PoolExhausted.
    """
    validate_endpoint_addresses(network, ipv4, ipv6)
    options = _options(ipam, network, mac, name)
    with ExitStack() as undo:
        cidr4 = _allocate(ipam, network, network.pools_v4(), ipv4, options)
        undo.callback(release_endpoint, ipam, network, cidr4, "")
        cidr6 = _allocate(ipam, network, network.pools_v6(), ipv6, options)
        undo.pop_all()
    return cidr4, cidr6


def release_endpoint(ipam: Ipam, network: Network, ipv4: str, ipv6: str) -> None:
    """Give back an endpoint's addresses (CIDR text, "" for none); what the IPAM refuses is logged."""
    for cidr in filter(None, (ipv4, ipv6)):
        address = cidr.partition("/")[0]
        for pool in _containing(network.pools, address):
            try_release(ipam.release_address, pool.pool_id, address)


def restore_endpoint(ipam: Ipam, network: Network, ipv4: str, ipv6: str) -> None:
    """Hold the addresses of a stored endpoint again (CIDR text, "" for none)."""
    for cidr in filter(None, (ipv4, ipv6)):
        address = cidr.partition("/")[0]
        for pool in _containing(network.pools, address):
            ipam.restore_address(pool.pool_id, address)


def _allocate(
    ipam: Ipam, network: Network, pools: Sequence[Pool], address: str, options: Mapping[str, str]
) -> str:
    if not pools:
        return ""
    if address:
        (pool,) = _containing(pools, address)
        return ipam.request_address(pool.pool_id, address, options)
    for pool in pools:
        try:
            return ipam.request_address(pool.pool_id, "", options)
        except PoolExhausted:
            continue
    family = 6 if ":" in pools[0].subnet else 4
    raise PoolExhausted(
        f"no available IPv{family} addresses on this network's address pools: {network.name} ({network.id})"
    )


def _options(ipam: Ipam, network: Network, mac: str, name: str) -> dict[str, str]:
    options = {SERIAL: network.ipam_options[SERIAL]} if SERIAL in network.ipam_options else {}
    if name:
        options[ENDPOINT_NAME] = name
    if mac and ipam.capabilities().requires_mac_address:
        options[ENDPOINT_MAC] = mac
    return options


def _containing(pools: Sequence[Pool], address: str) -> list[Pool]:
    """At most one: the subnets of a network do not overlap."""
    parsed = parse_address(address)
    return [pool for pool in pools if parsed in parse_cidr(pool.subnet).network]
