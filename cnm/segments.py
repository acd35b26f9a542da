"""A network of the cluster on a host that takes part in it: its namespace, who else is in it, and what they hear of us.

It is set up with the first endpoint of this host's that comes into a sandbox, and taken down with the last that leaves.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial

from cnm import cluster_guard
from cnm.cluster.cluster import Joined, Place
from cnm.cluster.records import SharedEndpoint
from cnm.clustered import is_clustered
from cnm.drivers import overlay
from cnm.endpoint import Endpoint, EndpointState
from cnm.errors import CnmError
from cnm.kernel.state import KernelState
from cnm.naming import names_of
from cnm.network import Network
from cnm.resolver.records import Member
from cnm.resources import Resources
from cnm.sandbox import Sandbox
from cnm.stand_ins import is_stand_in, original, taking_part

log = logging.getLogger(__name__)


def place_of(r: Resources, network: Network) -> Place:
    options = overlay.options_of(network)
    return Place(
        overlay.segment_id(network),
        overlay.namespace(network, r.facts),
        overlay.BRIDGE,
        overlay.tunnel_name(network),
        options.encrypted,
        options.multicast,
    )


def enter(r: Resources, network: Network, endpoint: Endpoint, undo: contextlib.ExitStack) -> bool:
    """Before the endpoint's links are made: whether this host is new in the network. Raises EtcdError, KernelError;
    nothing is left then."""
    if not is_clustered(r, network):
        return False
    r.cluster.etcd()
    undo.callback(cluster_guard.follow, r)
    undo.callback(
        r.participation.leave, overlay.segment_id(network), endpoint.id, partial(_dismantle, r, network)
    )
    return r.participation.enter(overlay.segment_id(network), endpoint.id, partial(_set_up, r, network))


def _set_up(r: Resources, network: Network) -> None:
    place = place_of(r, network)
    with contextlib.ExitStack() as undo:
        if place.encrypted:
            undo.callback(r.encryption.exit, place.network_id)
            r.encryption.enter(network.name, place.network_id)
            r.refresh_facts()  # it is known now that this host encrypts
        undo.callback(_take_down, r, network)
        with r.cluster.taking_part(place.network_id) as found:
            make_namespace(r, network)
            r.kernel.apply(_devices(r, network))
            cluster_guard.follow(r)
            r.cluster.enter(place, found)
        undo.pop_all()


def make_namespace(r: Resources, network: Network) -> None:
    """What is left of one, as after a crash, is no better than none."""
    path = overlay.namespace(network, r.facts)
    r.kernel.remove_namespace(path)
    r.kernel.create_namespace(path, bridged=True)


def _devices(r: Resources, network: Network) -> Sequence[KernelState]:
    return r.driver_of(network).network_state(network, r.facts)


def _dismantle(r: Resources, network: Network) -> None:
    r.cluster.exit(overlay.segment_id(network))
    try:
        _take_down(r, network)
        cluster_guard.follow(r)
    finally:
        if overlay.options_of(network).encrypted:
            r.encryption.exit(overlay.segment_id(network))


def _take_down(r: Resources, network: Network) -> None:
    """The tunnel first: its number can be used again at once then."""
    path = overlay.namespace(network, r.facts)
    if r.kernel.namespace_alive(path):
        r.kernel.remove(_devices(r, network), wait=True)
    r.kernel.remove_namespace(path)


@contextlib.contextmanager
def publishing(
    r: Resources, network: Network, endpoint: Endpoint, sandbox: Sandbox, undo: contextlib.ExitStack
) -> Iterator[None]:
    """The other hosts hear of the endpoint while its links are made inside: what they send it is at most some
    milliseconds early, and their entries are not late. Raises EtcdError, Unavailable at the end."""
    if not is_clustered(r, network):
        yield
        return
    undo.callback(r.cluster.withdraw, overlay.segment_id(network), endpoint.id)
    with r.cluster.publishing(_joined(network, endpoint, sandbox)):
        yield
    undo.callback(_unname_here, r, network, endpoint)
    name_here(r, network, endpoint)


def withdraw(
    r: Resources, network: Network, endpoint: Endpoint, sandbox: Sandbox, undo: contextlib.ExitStack
) -> None:
    """Before the endpoint's links go."""
    if is_clustered(r, network):
        undo.callback(_publish_again, r, network, endpoint, sandbox)
        r.cluster.withdraw(overlay.segment_id(network), endpoint.id)
        _unname_here(r, network, endpoint)


def _publish_again(r: Resources, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> None:
    try:
        r.cluster.publish(_joined(network, endpoint, sandbox))
    except CnmError as error:
        log.error("endpoint %s is not known to the other hosts: %s", endpoint.name, error)
    name_here(r, network, endpoint)


def renamed(r: Resources, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> None:
    """A joined endpoint is called otherwise now. The other hosts hear of it when they can."""
    if is_clustered(r, network):
        r.cluster.amend(_joined(network, endpoint, sandbox))
        name_here(r, network, endpoint)


def name_here(r: Resources, network: Network, endpoint: Endpoint) -> None:
    """Names of dockerd's containers are answered on this host as those of other hosts are: dockerd's own server, which
    knows them, serves nobody but them."""
    shared = original(r, overlay.segment_id(network))
    if is_stand_in(network) and shared is not None and endpoint.aliases:
        ipv4, ipv6 = endpoint.ipv4.partition("/")[0], endpoint.ipv6.partition("/")[0]
        r.naming.elsewhere(shared, {endpoint.id: Member(endpoint.id, endpoint.aliases, ipv4, ipv6)})


def _unname_here(r: Resources, network: Network, endpoint: Endpoint) -> None:
    shared = original(r, overlay.segment_id(network))
    if is_stand_in(network) and shared is not None:
        r.naming.elsewhere(shared, {endpoint.id: None})


def left(r: Resources, network: Network, endpoint: Endpoint) -> None:
    """The endpoint's links are gone; it has left, whatever fails now."""
    if not is_clustered(r, network):
        return
    try:
        r.participation.leave(overlay.segment_id(network), endpoint.id, partial(_dismantle, r, network))
    except CnmError as error:
        log.error("the devices of network %s are not gone: %s; cnmctl doctor shows them", network.name, error)


def _joined(network: Network, endpoint: Endpoint, sandbox: Sandbox) -> Joined:
    shared = SharedEndpoint(
        mac=endpoint.mac,
        ipv4=endpoint.ipv4.partition("/")[0],
        ipv6=endpoint.ipv6.partition("/")[0],
        names=names_of(sandbox, endpoint),
    )
    return Joined(overlay.segment_id(network), endpoint.id, shared)


# At start-up


def name_all_here(r: Resources) -> None:
    """What dockerd told before this start; when the resolver is there."""
    for network, endpoint in _joined_here(r):
        name_here(r, network, endpoint)


def recall(r: Resources) -> None:
    """Who was in which network before, when the nouns are known; namespaces that are gone are made again."""
    for network, endpoint in _joined_here(r):
        r.participation.resume(overlay.segment_id(network), endpoint.id)
    encrypted = [network for network in taking_part(r) if overlay.options_of(network).encrypted]
    r.encryption.resume(overlay.segment_id(network) for network in encrypted)
    r.refresh_facts()
    for path, network in namespaces(r).items():
        if not r.kernel.namespace_alive(path):
            log.info("network %s lost its namespace: made again", network.name)
            make_namespace(r, network)


def _joined_here(r: Resources) -> Iterator[tuple[Network, Endpoint]]:
    for network in r.model.networks():
        if is_clustered(r, network):
            for endpoint in r.model.endpoints_of_network(network.id):
                if endpoint.state is EndpointState.JOINED:
                    yield network, endpoint


def namespaces(r: Resources) -> dict[str, Network]:
    """Networks that have a namespace of their own here, by its path."""
    return {overlay.namespace(network, r.facts): network for network in taking_part(r)}


def known_here(r: Resources) -> tuple[list[Place], list[Joined]]:
    """What this host has of the cluster's networks: what the cluster is begun with."""
    places = [place_of(r, network) for network in namespaces(r).values()]
    joined = [
        _joined(network, endpoint, r.model.sandbox(endpoint.sandbox_id))
        for network, endpoint in _joined_here(r)
    ]
    return places, joined
