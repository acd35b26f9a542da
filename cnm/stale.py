"""Endpoints that dockerd has forgotten: it died, or was not heard, before it said that a container is gone."""

from __future__ import annotations

from collections.abc import Iterator

from cnm import handover
from cnm.endpoint import Endpoint, EndpointState
from cnm.kernel.state import HOST
from cnm.network import Owner
from cnm.resources import Resources


def stale(resources: Resources) -> list[str]:
    """Ids of dockerd's endpoints that no container is behind: never joined, or their namespace is gone.

    One may look so for a moment, while dockerd starts a container: 20.10 joins it before there is a namespace.
    """
    return [endpoint.id for endpoint in _dead(resources)]


def gone(resources: Resources) -> list[str]:
    """The stale ones whose link is gone, too: no container can be on its way to them."""
    there = resources.kernel.interface_names(HOST)
    return [
        endpoint.id
        for endpoint in _dead(resources)
        if endpoint.state is EndpointState.JOINED
        and there.isdisjoint({handover.source_name(endpoint), *_host_links(resources, endpoint)})
    ]


def _dead(resources: Resources) -> Iterator[Endpoint]:
    owned = {n.id for n in resources.model.networks() if n.owner is Owner.DOCKERD}
    endpoints = [e for e in resources.model.endpoints() if e.network_id in owned] if owned else []
    if not endpoints:
        return
    there = resources.kernel.interface_names(HOST)
    for endpoint in endpoints:
        if endpoint.state is EndpointState.CREATED or (
            endpoint.state is EndpointState.JOINED and not _lives(resources, endpoint, there)
        ):
            yield endpoint


def _lives(resources: Resources, endpoint: Endpoint, there: frozenset[str]) -> bool:
    """Whether its namespace is at its key, or its link was moved to where we cannot see."""
    sandbox = resources.model.sandbox(endpoint.sandbox_id)
    if resources.kernel.namespace_alive(sandbox.netns):
        return True
    links = _host_links(resources, endpoint)
    return bool(links) and there.issuperset(links) and handover.source_name(endpoint) not in there


def _host_links(resources: Resources, endpoint: Endpoint) -> list[str]:
    """Names of the links that stay on the host while the endpoint is joined."""
    network = resources.model.network(endpoint.network_id)
    states = resources.driver_of(network).join_state(network, endpoint, handover.NOWHERE, resources.facts)
    return [link.name for state in states if state.namespace == HOST for link in state.links]
