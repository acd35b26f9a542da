"""Whether a topology makes sense, before it is made; complaints name the host or link and the remedy."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

from netns_fixtures.errors import TopologyError
from netns_fixtures.segments import segments, uplink_routes
from netns_fixtures.spec import EndSpec, HostSpec, LinkSpec, RouteSpec, TopologySpec

_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_INTERFACE_NAME = re.compile(r"[^\s/:%\"]{1,15}")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_SMALLEST_MTU = 68
_LARGEST_MTU = 65535


def check(topology: TopologySpec) -> None:
    """TopologyError for the first thing that cannot be built."""
    if not topology.hosts:
        raise TopologyError("the topology has no hosts; give at least one under `hosts`")
    for name, host in topology.hosts.items():
        _check_host(name, host)
    for link in topology.links:
        _check_link(topology, link)
    for name in topology.hosts:
        _check_interfaces_are_distinct(topology, name)
    _check_addresses_are_distinct(topology)
    for name, host in topology.hosts.items():
        for route in host.routes:
            _check_route(topology, name, route)
        _check_uplink(topology, name, host.uplink)


def next_hop(route: RouteSpec) -> IPv4Address | IPv6Address | None:
    """The address of a route's next hop, None where the destination is on the link."""
    return ip_address(route.via) if route.via else None


def destination(route: RouteSpec) -> str:
    """A route's destination as CIDR text; "default" takes the family of the next hop."""
    if route.destination != "default":
        return route.destination
    hop = next_hop(route)
    return "::/0" if hop is not None and hop.version == 6 else "0.0.0.0/0"


def _check_host(name: str, host: HostSpec) -> None:
    where = f'host "{name}"'
    if not _HOST_NAME.fullmatch(name):
        raise TopologyError(f"{where}: not a host name; use letters, digits, dots, dashes, at most 63")
    for bridge_name, bridge in host.bridges.items():
        bridge_where = f'{where}: bridge "{bridge_name}"'
        _check_interface_name(bridge_name, bridge_where)
        _check_attributes(bridge.addresses, bridge.mac, bridge.mtu, bridge_where)
    _check_attributes(host.loopback, "", 0, f"{where}: loopback")
    for key in host.sysctls:
        if not re.match(r"net[./]", key):
            raise TopologyError(f'{where}: sysctl "{key}" is not the host\'s own; only keys under "net" are')


def _check_link(topology: TopologySpec, link: LinkSpec) -> None:
    for end in link.ends:
        if end.host not in topology.hosts:
            raise TopologyError(
                f'{link}: there is no host "{end.host}"; hosts are {", ".join(topology.hosts)}'
            )
        _check_end(topology.hosts[end.host], end, f'{link}: interface "{end.interface}"')
        _check_attributes(end.addresses, end.mac, link.mtu, f'{link}: host "{end.host}"')


def _check_end(host: HostSpec, end: EndSpec, where: str) -> None:
    _check_interface_name(end.interface, where)
    if not end.bridge:
        return
    if end.bridge not in host.bridges:
        raise TopologyError(
            f'{where}: host "{end.host}" has no bridge "{end.bridge}"; add it to its `bridges`'
        )
    if end.addresses:
        raise TopologyError(f'{where}: a bridge port has no addresses; give them to bridge "{end.bridge}"')


def _check_interface_name(name: str, where: str) -> None:
    if (
        not _INTERFACE_NAME.fullmatch(name)
        or len(name.encode()) > 15
        or name in (".", "..", "lo", "all", "default")
    ):
        raise TopologyError(f"{where}: not usable as an interface name; give 1 to 15 letters or digits")


def _check_attributes(addresses: tuple[str, ...], mac: str, mtu: int, where: str) -> None:
    for address in addresses:
        _check_address(address, where)
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or not mac.strip("0:")):
        raise TopologyError(f'{where}: "{mac}" is not the MAC of an interface; write it as 02:00:00:00:00:01')
    if mtu and not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        raise TopologyError(
            f"{where}: MTU {mtu} is out of range; give {_SMALLEST_MTU} to {_LARGEST_MTU} bytes"
        )


def _check_address(address: str, where: str) -> None:
    try:
        ip_interface(address)
    except ValueError as error:
        raise TopologyError(f'{where}: "{address}" is not an address; write it as 192.0.2.1/24') from error
    if "/" not in address:
        raise TopologyError(f'{where}: address "{address}" has no prefix length; write it as {address}/24')


def _check_interfaces_are_distinct(topology: TopologySpec, host: str) -> None:
    seen = set(topology.hosts[host].bridges)
    for end in topology.ends_of(host):
        if end.interface in seen:
            raise TopologyError(f'host "{host}": two interfaces are named "{end.interface}"; rename one')
        seen.add(end.interface)


def _check_addresses_are_distinct(topology: TopologySpec) -> None:
    for segment in segments(topology):
        owners: dict[str, str] = {}
        for host, interface in sorted(segment):
            for address in topology.addresses_of(host).get(interface, ()):
                ip = str(ip_interface(address).ip)
                if ip in owners:
                    raise TopologyError(
                        f'host "{host}": address {ip} is also that of host "{owners[ip]}" on the same link;'
                        " change one"
                    )
                owners[ip] = host


def _check_route(topology: TopologySpec, host: str, route: RouteSpec) -> None:
    where = f'host "{host}": route to "{route.destination}"'
    if not route.via and not route.interface:
        raise TopologyError(f"{where}: leads nowhere; give `via` or `interface`")
    by_interface = topology.addresses_of(host)
    if route.interface and route.interface not in by_interface:
        raise TopologyError(f'{where}: the host has no interface "{route.interface}"')
    try:
        network, hop = ip_network(destination(route)), next_hop(route)
    except ValueError as error:
        raise TopologyError(f"{where}: {error}") from error
    if hop is None:
        return
    if hop.version != network.version:
        raise TopologyError(f"{where}: destination and next hop {hop} are of different families")
    subnets = [ip_interface(address).network for addresses in by_interface.values() for address in addresses]
    if not route.interface and not any(hop in subnet for subnet in subnets):
        raise TopologyError(f"{where}: next hop {hop} is in no subnet of the host; give `interface` too")


def _check_uplink(topology: TopologySpec, host: str, uplink: str) -> None:
    where = f'host "{host}": uplink "{uplink}"'
    if not uplink:
        return
    if uplink not in topology.hosts:
        raise TopologyError(f"{where}: there is no such host; hosts are {', '.join(topology.hosts)}")
    if uplink == host:
        raise TopologyError(f"{where}: a host cannot be its own uplink; name a neighbour")
    if not uplink_routes(topology, host):
        raise TopologyError(f"{where}: no common subnet; give both an address in one subnet on a common link")
