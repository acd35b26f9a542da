"""Endpoints that dockerd has forgotten: it died, or was not heard, before it said that a container is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from cnm import handover
from cnm.endpoint import Endpoint, EndpointState
from cnm.errors import NotFound
from cnm.kernel.state import HOST
from cnm.network import Owner
from cnm.resources import Resources

Names = Callable[[str], frozenset[str]]
"""Names of the interfaces in a namespace."""


def stale(resources: Resources) -> list[str]:
    """Ids of dockerd's endpoints that no container is behind: never joined, or their namespace is gone.

    One may look so for a moment, while dockerd starts a container: 20.10 joins it before there is a namespace.
    """
    return [endpoint.id for endpoint in _dead(resources)]


def gone(resources: Resources) -> list[str]:
    """The stale ones whose link is gone, too: no container can be on its way to them."""
    names = _names_in(resources)
    return [
        endpoint.id
        for endpoint in _dead(resources)
        if endpoint.state is EndpointState.JOINED
        and handover.source_name(endpoint) not in names(HOST)
        and not any(name in names(namespace) for namespace, name in _staying(resources, endpoint))
    ]


def _dead(resources: Resources) -> Iterator[Endpoint]:
    owned = {n.id for n in resources.model.networks() if n.owner is Owner.DOCKERD}
    endpoints = [e for e in resources.model.endpoints() if e.network_id in owned] if owned else []
    if not endpoints:
        return
    names = _names_in(resources)
    for endpoint in endpoints:
        if endpoint.state is EndpointState.CREATED or (
            endpoint.state is EndpointState.JOINED and not _lives(resources, endpoint, names)
        ):
            yield endpoint


def _names_in(resources: Resources) -> Names:
    """Looks into each namespace once, the host's at first."""

    @cache
    def names(namespace: str) -> frozenset[str]:
        try:
            return resources.kernel.interface_names(namespace)
        except NotFound:
            return frozenset()

    names(HOST)
    return names


def _lives(resources: Resources, endpoint: Endpoint, names: Names) -> bool:
    """Whether its namespace is at its key, or its link was moved to where we cannot see."""
    sandbox = resources.model.sandbox(endpoint.sandbox_id)
    if resources.kernel.namespace_alive(sandbox.netns):
        return True
    links = _staying(resources, endpoint)
    there = all(name in names(namespace) for namespace, name in links)
    return bool(links) and there and handover.source_name(endpoint) not in names(HOST)


def _staying(resources: Resources, endpoint: Endpoint) -> list[tuple[str, str]]:
    """(namespace, name) of the links that stay while the endpoint is joined, on the host or in its network's."""
    network = resources.model.network(endpoint.network_id)
    states = resources.driver_of(network).join_state(network, endpoint, handover.NOWHERE, resources.facts)
    return [
        (state.namespace, link.name)
        for state in states
        if state.namespace == HOST or state.own
        for link in state.links
    ]
