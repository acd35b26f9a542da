"""Everything that must exist, computed from the nouns: what verbs apply in pieces and doctor compares as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec

from cnm import cluster_guard, handover, ports, probe
from cnm.drivers import overlay
from cnm.endpoint import Endpoint, EndpointState, PortMapping
from cnm.gateway import Candidate, Gateways, choose, default_routes
from cnm.kernel import neighbor_limits
from cnm.kernel.diff import merge
from cnm.kernel.state import HOST, Group, KernelState
from cnm.naming import Attached, is_nameable
from cnm.network import Network, NetworkState, Owner
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind


def network_wanted(resources: Resources, network: Network) -> tuple[KernelState, ...]:
    """Nothing for a predefined network that was never used: it has no pools yet."""
    driver = resources.driver_of(network)
    if driver.capabilities.needs_ipam and not network.pools:
        return ()
    if driver.capabilities.clustered and not _takes_part(resources, network):
        return ()
    return driver.network_state(network, resources.facts)


def _takes_part(resources: Resources, network: Network) -> bool:
    takes_part = overlay.segment_id(network) in resources.participation
    return takes_part and resources.facts.underlay is not None


def network_alone(resources: Resources, network: Network) -> tuple[KernelState, ...]:
    """What goes with the network: without the links of its parent that another network stands on as well.

    A segment of the cluster goes with the last endpoint on it.
    """
    if resources.driver_of(network).capabilities.clustered:
        return ()
    states = network_wanted(resources, network)
    if not resources.driver_of(network).capabilities.on_parent:
        return states
    others = [n for n in _active(resources) if n.id != network.id]
    kept = {
        link
        for other in others
        if other.driver == network.driver
        for state in network_wanted(resources, other)
        for link in state.links
    }
    return tuple(replace(s, links=tuple(link for link in s.links if link not in kept)) for s in states)


def bridges(resources: Resources) -> frozenset[str]:
    """Names of the bridges that the networks have on the host."""
    return frozenset(name for network in _active(resources) for name in _bridges_of(resources, network))


def named_bridges(resources: Resources) -> dict[str, str]:
    """Names of the networks on which names are known, by the names of their bridges on the host."""
    named = filter(is_nameable, _active(resources))
    return {bridge: network.name for network in named for bridge in _bridges_of(resources, network)}


def _active(resources: Resources) -> list[Network]:
    return [n for n in resources.model.networks() if n.state is NetworkState.ACTIVE]


def _bridges_of(resources: Resources, network: Network) -> Iterator[str]:
    for state in network_wanted(resources, network):
        if state.namespace == HOST:
            yield from (link.name for link in state.links if link.group == Group.BRIDGE)


def endpoint_wanted(
    resources: Resources, network: Network, endpoint: Endpoint, sandbox: Sandbox
) -> tuple[KernelState, ...]:
    """The joined endpoint with its published ports, without default routes."""
    driver = resources.driver_of(network)
    states = driver.join_state(network, endpoint, sandbox, resources.facts)
    if sandbox.kind is SandboxKind.DOCKERD:
        states = handover.for_dockerd(states, network, endpoint)
    published = held_ports(resources, endpoint)
    if published:
        states += driver.port_state(network, endpoint, published, resources.facts)
    return states


def left_behind(resources: Resources, network: Network, endpoint: Endpoint) -> tuple[KernelState, ...]:
    """What an endpoint of dockerd's that is in no sandbox may have outside since it left one."""
    moved = msgspec.structs.replace(endpoint, moved=True)
    return handover.left_behind(endpoint_wanted(resources, network, moved, handover.NOWHERE))


def held_ports(resources: Resources, endpoint: Endpoint) -> tuple[PortMapping, ...]:
    """The published ports without those that another program took while cnmd was down: they are that program's."""
    lost = frozenset(resources.reservations.lost())
    if not lost:
        return endpoint.ports
    return tuple(single for single in ports.singles(endpoint.ports) if single not in lost)


def gateways(resources: Resources, endpoints: list[Endpoint]) -> Gateways:
    """The choice among `endpoints`, all of one sandbox."""
    candidates = []
    for endpoint in endpoints:
        network = resources.model.network(endpoint.network_id)
        ipv4, ipv6 = resources.driver_of(network).gateways(network, endpoint)
        candidates.append(Candidate(endpoint, network, ipv4, ipv6))
    return choose(candidates)


def joined_endpoints(resources: Resources, sandbox_id: str) -> list[Endpoint]:
    return [e for e in resources.model.endpoints_of_sandbox(sandbox_id) if e.state is EndpointState.JOINED]


def attached(resources: Resources, sandbox: Sandbox) -> list[Attached]:
    """What the sandbox is joined to."""
    joined = joined_endpoints(resources, sandbox.id)
    return [Attached(endpoint, resources.model.network(endpoint.network_id)) for endpoint in joined]


def gateway_routes(sandbox: Sandbox, chosen: Gateways) -> KernelState:
    """None where they are dockerd's affair."""
    if sandbox.kind is SandboxKind.DOCKERD:
        return KernelState(namespace=sandbox.netns)
    return KernelState(namespace=sandbox.netns, routes=default_routes(chosen))


def cluster_limits(resources: Resources) -> KernelState:
    """Of neighbours, which the sandboxes of overlay networks need many of."""
    if not resources.cluster.present:
        return KernelState()
    return KernelState(sysctls=neighbor_limits.too_low(resources.kernel.sysctl))


def everything(resources: Resources) -> tuple[KernelState, ...]:
    """One state a namespace, the host's first."""
    return merge(_everything(resources))


def _everything(resources: Resources) -> Iterator[KernelState]:
    yield resources.wanted_host_state()
    yield KernelState(elements=cluster_guard.wanted_elements(resources))
    yield from probe.wanted(resources)
    yield resources.encryption.wanted()
    yield cluster_limits(resources)
    networks = {n.id: n for n in _active(resources)}
    for network in networks.values():
        yield from network_wanted(resources, network)
    for sandbox in resources.model.sandboxes():
        endpoints = joined_endpoints(resources, sandbox.id)
        for endpoint in endpoints:
            yield from endpoint_wanted(resources, networks[endpoint.network_id], endpoint, sandbox)
        yield gateway_routes(sandbox, gateways(resources, endpoints))
    for network in networks.values():
        if network.owner is Owner.DOCKERD:
            for endpoint in resources.model.endpoints_of_network(network.id):
                if endpoint.state is EndpointState.CREATED:
                    yield from map(handover.tolerated, left_behind(resources, network, endpoint))
