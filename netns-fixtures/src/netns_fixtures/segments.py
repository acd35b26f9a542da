"""Which interfaces hear each other: the layer 2 segments of links and bridges, and the uplinks they allow."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from netns_fixtures.spec import RouteSpec, TopologySpec

Port = tuple[str, str]
"""A host's name and the name of one of its interfaces."""


def segments(topology: TopologySpec) -> list[frozenset[Port]]:
    """The groups of interfaces between which a broadcast travels."""
    groups: list[set[Port]] = []
    for link in topology.links:
        joined: set[Port] = {(end.host, end.interface) for end in link.ends}
        joined |= {(end.host, end.bridge) for end in link.ends if end.bridge}
        groups = _merge(groups, joined)
    return [frozenset(group) for group in groups]


def _merge(groups: list[set[Port]], joined: set[Port]) -> list[set[Port]]:
    for group in groups:
        if group & joined:
            joined |= group
    return [group for group in groups if not group & joined] + [joined]


def uplink_routes(topology: TopologySpec, host: str) -> tuple[RouteSpec, ...]:
    """The default routes, at most one per family, that a host's `uplink` stands for."""
    routes: dict[int, RouteSpec] = {}
    for segment in segments(topology):
        own = _addresses(topology, segment, host)
        for neighbour in _addresses(topology, segment, topology.hosts[host].uplink):
            if any(neighbour.ip in address.network for address in own):
                routes.setdefault(neighbour.version, RouteSpec("default", via=str(neighbour.ip)))
    return tuple(routes.values())


def _addresses(
    topology: TopologySpec, segment: frozenset[Port], host: str
) -> list[IPv4Interface | IPv6Interface]:
    by_interface = topology.addresses_of(host)
    return [
        ip_interface(address)
        for interface, addresses in by_interface.items()
        if (host, interface) in segment
        for address in addresses
    ]
