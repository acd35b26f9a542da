"""Published ports as values: ranges taken apart, put together, and matched with what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from cnm.endpoint import PortMapping, PortRequest, Protocol
from cnm.errors import NotFound


def singles(mappings: Iterable[PortMapping]) -> Iterator[PortMapping]:
    """Every range as mappings of one port each."""
    for mapping in mappings:
        if mapping.count == 1:
            yield mapping
            continue
        for offset in range(mapping.count):
            yield PortMapping(
                protocol=mapping.protocol,
                container_port=mapping.container_port + offset,
                host_port=mapping.host_port + offset if mapping.host_port else 0,
                host_address=mapping.host_address,
            )


def ranges(mappings: Iterable[PortMapping]) -> tuple[PortMapping, ...]:
    """Neighbouring single ports joined into ranges, the order kept."""
    joined: list[PortMapping] = []
    for mapping in mappings:
        if joined and _follows(joined[-1], mapping):
            joined[-1] = msgspec.structs.replace(joined[-1], count=joined[-1].count + mapping.count)
        else:
            joined.append(mapping)
    return tuple(joined)


def _follows(first: PortMapping, second: PortMapping) -> bool:
    return (
        first.protocol is second.protocol
        and first.host_address == second.host_address
        and first.container_port + first.count == second.container_port
        and bool(first.host_port)
        and first.host_port + first.count == second.host_port
    )


def withdraw(
    published: Iterable[PortMapping], requests: Iterable[PortRequest]
) -> tuple[tuple[PortMapping, ...], tuple[PortMapping, ...]]:
    """(what goes, what stays) when `requests` are unpublished; a host port or address left open matches any.

    Raises NotFound naming the first port that is not published.
    """
    by_port: dict[tuple[Protocol, int], list[PortMapping]] = {}
    for mapping in singles(published):
        by_port.setdefault((mapping.protocol, mapping.container_port), []).append(mapping)
    going: list[PortMapping] = []
    for request in requests:
        for port in range(request.container_port, (request.container_port_end or request.container_port) + 1):
            here = by_port.get((request.protocol, port), [])
            matching = [mapping for mapping in here if _matches(request, mapping)]
            if not matching:
                raise NotFound(
                    f"port {port}/{request.protocol.value} is not published as asked: cnmctl port ls"
                )
            going += matching
            by_port[request.protocol, port] = [mapping for mapping in here if mapping not in matching]
    return ranges(going), ranges(mapping for here in by_port.values() for mapping in here)


def _matches(request: PortRequest, mapping: PortMapping) -> bool:
    if request.host_address and request.host_address != mapping.host_address:
        return False
    if not request.host_port:
        return True
    if request.host_port_end:
        return request.host_port <= mapping.host_port <= request.host_port_end
    return mapping.host_port == request.host_port + mapping.container_port - request.container_port


def as_requests(mappings: Iterable[PortMapping]) -> tuple[PortRequest, ...]:
    """Requests that ask for exactly these host ports again."""
    return tuple(
        PortRequest(
            protocol=m.protocol,
            container_port=m.container_port,
            container_port_end=m.container_port + m.count - 1 if m.count > 1 else 0,
            host_port=m.host_port,
            host_port_end=m.host_port + m.count - 1 if m.count > 1 and m.host_port else 0,
            host_address=m.host_address,
        )
        for m in mappings
    )


def as_mappings(requests: Iterable[PortRequest]) -> tuple[PortMapping, ...]:
    """What `requests` ask for, as ranges; host port 0 where any will do."""
    return tuple(
        PortMapping(
            protocol=r.protocol,
            container_port=r.container_port,
            host_port=r.host_port,
            host_address=r.host_address,
            count=max(r.container_port_end - r.container_port + 1, 1),
        )
        for r in requests
    )
