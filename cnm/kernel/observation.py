"""Reads what exists in one namespace, as records, and answers small questions about the host's routes."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from cnm.kernel import address_messages, link_messages, neighbor_messages, route_messages, sysctls
from cnm.kernel.contract import Uplink
from cnm.kernel.diff import MARK
from cnm.kernel.link_messages import ObservedLink
from cnm.kernel.netlink import NetlinkSocket
from cnm.kernel.state import (
    HOST,
    Address,
    FdbEntry,
    KernelState,
    Link,
    Neighbor,
    Route,
    Sysctl,
)

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LOOPBACK_INDEX = 1
"""In every namespace."""


HostName = Callable[[int], str]
"""Answers the name of a link of the host's namespace by its index, "" where there is none."""


def observe(netlink: NetlinkSocket, wanted: KernelState, host_name: HostName) -> KernelState:
    """Everything of the namespace that `netlink` is in; of /proc/sys what `wanted` names, of forwarding entries and of
    neighbours elsewhere than on the host what is on the links that it names: an overlay's devices have thousands.

    In the host's namespace only links with our mark or a wanted name count, and what is on them.
    """
    links = _links(netlink, None if wanted.namespace == HOST else host_name)
    if wanted.namespace == HOST:
        names = {link.name for link in wanted.links}
        links = {i: link for i, link in links.items() if link.alias.startswith(MARK) or link.name in names}
    return KernelState(
        namespace=wanted.namespace,
        links=tuple(links.values()),
        addresses=tuple(_addresses(netlink, links)) if wanted.addresses else (),
        routes=tuple(_routes(netlink, links)) if wanted.routes else (),
        neighbors=tuple(
            _neighbors(netlink, links, [0] if wanted.namespace == HOST else _indexes(wanted.neighbors, links))
        ),
        fdb=tuple(_fdb(netlink, links, _indexes(wanted.fdb, links))),
        sysctls=tuple(_sysctls(wanted)),
    )


def _links(netlink: NetlinkSocket, host_name: HostName | None = None) -> dict[int, Link]:
    """All links by index, masters and parents by name; parents are of this namespace without `host_name`."""
    observed = [link_messages.parse(m) for m in netlink.dump(link_messages.list_all())]
    names = {o.index: o.link.name for o in observed}
    parent_name = host_name or (lambda index: names.get(index, ""))
    return {o.index: _named_after(o, names, parent_name) for o in observed}


def _named_after(observed: ObservedLink, names: dict[int, str], parent_name: HostName) -> Link:
    """The link with the names of its master and its parent."""
    link = observed.link
    if not observed.master_index and not observed.parent_index:
        return link
    master = names.get(observed.master_index, "")
    return replace(with_parent(observed, parent_name), master=master)


def with_parent(observed: ObservedLink, parent_name: HostName) -> Link:
    """The link with the name of what it stands on."""
    return replace(observed.link, parent=parent_name(observed.parent_index) if observed.parent_index else "")


def _addresses(netlink: NetlinkSocket, links: dict[int, Link]) -> Iterator[Address]:
    for message in netlink.dump(address_messages.list_all()):
        index, cidr, automatic = address_messages.parse(message)
        if index in links and not automatic:
            yield Address(links[index].name, cidr)


def _routes(netlink: NetlinkSocket, links: dict[int, Link]) -> Iterator[Route]:
    for family in _FAMILIES:
        for message in netlink.dump(route_messages.list_all(family)):
            parsed = route_messages.parse(message)
            if parsed is None:
                continue
            index, route, protocol = parsed
            if protocol != route_messages.PROTOCOL_KERNEL and index in links:
                yield _named(route, links[index].name, family)


def _named(route: Route, link: str, family: int) -> Route:
    """The route as a driver would write it: the kernel's default IPv6 metric is left open."""
    metric = 0 if family == socket.AF_INET6 and route.metric == 1024 else route.metric
    return Route(route.destination, link, route.via, route.table, metric, route.local)


def routes(netlink: NetlinkSocket) -> tuple[Route, ...]:
    """All routes that somebody set (none of the kernel's own)."""
    return tuple(_routes(netlink, _links(netlink)))


def _indexes(records: Iterable[Neighbor | FdbEntry], links: dict[int, Link]) -> list[int]:
    """Of the links that records are on."""
    names = {record.link for record in records}
    return [index for index, link in links.items() if link.name in names]


def _neighbors(netlink: NetlinkSocket, links: dict[int, Link], indexes: Iterable[int]) -> Iterator[Neighbor]:
    for index in indexes:
        for family in _FAMILIES:
            for message in netlink.dump(neighbor_messages.list_family(family, index)):
                parsed = neighbor_messages.parse(message)
                if parsed and parsed[0] in links:
                    yield Neighbor(links[parsed[0]].name, parsed[1].address, parsed[1].mac)


def _fdb(netlink: NetlinkSocket, links: dict[int, Link], indexes: Iterable[int]) -> Iterator[FdbEntry]:
    for index in indexes:
        for message in netlink.dump(neighbor_messages.list_fdb(index)):
            parsed = neighbor_messages.parse_fdb(message)
            if parsed and parsed[0] in links:
                yield FdbEntry(links[parsed[0]].name, parsed[1].mac, parsed[1].remote)


def _sysctls(wanted: KernelState) -> Iterator[Sysctl]:
    for sysctl in wanted.sysctls:
        value = sysctls.read(sysctl.key)
        if value is not None:
            yield Sysctl(sysctl.key, value)


def uplink(netlink: NetlinkSocket) -> Uplink | None:
    """The link of the default route with the lowest metric, IPv4 before IPv6; None where there is none."""
    for family in _FAMILIES:
        defaults = [
            (route.metric, index)
            for index, route in _main_table(netlink, family)
            if route.destination in ("0.0.0.0/0", "::/0")
        ]
        if defaults:
            message = netlink.get(link_messages.get_index(min(defaults)[1]))
            link = link_messages.parse(message).link if message else None
            return Uplink(link.name, link.mtu) if link else None
    return None


def holder(netlink: NetlinkSocket, address: str) -> Uplink | None:
    """The link that has this bare address, None where none has."""
    for message in netlink.dump(address_messages.list_all()):
        index, cidr, _automatic = address_messages.parse(message)
        if cidr.partition("/")[0] == address:
            found = netlink.get(link_messages.get_index(index))
            link = link_messages.parse(found).link if found else None
            return Uplink(link.name, link.mtu) if link else None
    return None


def on_link_routes(netlink: NetlinkSocket) -> tuple[str, ...]:
    """CIDR texts of the IPv4 networks that the host is on itself, without its loopback."""
    return tuple(
        str(ipaddress.ip_network(route.destination))
        for index, route in _main_table(netlink, socket.AF_INET)
        if not route.via and index != _LOOPBACK_INDEX and route.destination != "0.0.0.0/0"
    )


def _main_table(netlink: NetlinkSocket, family: int) -> Iterator[tuple[int, Route]]:
    """(link index, route without its link's name)."""
    for message in netlink.dump(route_messages.list_all(family, route_messages.TABLE_MAIN)):
        parsed = route_messages.parse(message)
        if parsed is not None and parsed[1].table == route_messages.TABLE_MAIN:
            yield parsed[:2]
