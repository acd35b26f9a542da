"""Who is where in a network of the cluster: its hosts, and their endpoints."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import msgspec

from cnm.cluster import keys, records
from cnm.cluster.records import SharedEndpoint
from cnm.cluster.segment import end_of
from cnm.clustered import is_clustered
from cnm.drivers import overlay
from cnm.endpoint import EndpointState
from cnm.errors import InvalidParameter, NotFound
from cnm.naming import names_of
from cnm.network import Network
from cnm.resources import Resources
from cnm.wire.overlay import NetworkPeer, NetworkPeers, PeerEndpoint

log = logging.getLogger(__name__)


def peers(r: Resources, network: Network, *, endpoints: bool) -> NetworkPeers:
    """Asks the cluster where this host takes no part in the network. Raises InvalidParameter for one of this host only,
    Forbidden, EtcdError."""
    if not is_clustered(r, network):
        raise InvalidParameter(
            f"network {network.name} is this host's alone: only networks of driver overlay have peers"
        )
    takes_part = overlay.segment_id(network) in r.participation
    known = sorted(
        _known(r, network) if takes_part else _told(r, network), key=lambda each: (each.node, each.id)
    )
    counted = Counter(each.node for each in known)
    return NetworkPeers(
        network=network.name,
        network_id=network.id,
        takes_part=takes_part,
        peers=[_peer(r, network, node, count) for node, count in counted.items()],
        endpoints=known if endpoints else None,
    )


def hosts(r: Resources, network: Network) -> list[tuple[str, str]] | None:
    """(name, end of tunnels) of the hosts in a network that this host takes part in, as Docker shows them; asks nobody.

    None for any other network.
    """
    segment = r.cluster.segment(overlay.segment_id(network)) if is_clustered(r, network) else None
    if segment is None:
        return None
    nodes = {peer.node for peer in segment.known().values()} | {r.cluster.node_name}
    return [(node, _end(r, network, node)) for node in sorted(nodes)]


def _peer(r: Resources, network: Network, node: str, count: int) -> NetworkPeer:
    return NetworkPeer(
        name=node,
        address=_end(r, network, node),
        endpoints=count,
        alive=r.cluster.nodes.get(node) is not None,
        local=node == r.cluster.node_name,
    )


def _end(r: Resources, network: Network, node: str) -> str:
    known = r.cluster.node if node == r.cluster.node_name else r.cluster.nodes.get(node)
    return end_of(known, encrypted=overlay.options_of(network).encrypted)


def _known(r: Resources, network: Network) -> Iterator[PeerEndpoint]:
    """As this host's data path has them."""
    for endpoint in r.model.endpoints_of_network(network.id):
        if endpoint.state is EndpointState.JOINED:
            try:
                names = names_of(r.model.sandbox(endpoint.sandbox_id), endpoint)
            except NotFound:  # it is on its way out
                continue
            addresses = [cidr.partition("/")[0] for cidr in (endpoint.ipv4, endpoint.ipv6)]
            yield _endpoint(endpoint.id, r.cluster.node_name, names, endpoint.mac, *addresses)
    segment = r.cluster.segment(overlay.segment_id(network))
    for ident, peer in segment.known().items() if segment else ():
        ipv4 = next((each for each in peer.addresses if ":" not in each), "")
        ipv6 = next((each for each in peer.addresses if ":" in each), "")
        yield _endpoint(ident, peer.node, peer.names, peer.mac, ipv4, ipv6)


def _told(r: Resources, network: Network) -> Iterator[PeerEndpoint]:
    """As the cluster has them."""
    prefix = keys.endpoints(overlay.segment_id(network))
    for item in r.cluster.etcd().list(prefix).items:
        node, _, ident = item.key.removeprefix(prefix).partition("/")
        try:
            shared = records.decode(item.value, SharedEndpoint)
        except msgspec.DecodeError as error:
            log.error("%s is no endpoint's record: %s", item.key, error)
            continue
        yield _endpoint(ident, node, shared.names, shared.mac, shared.ipv4, shared.ipv6)


def _endpoint(ident: str, node: str, names: tuple[str, ...], mac: str, ipv4: str, ipv6: str) -> PeerEndpoint:
    return PeerEndpoint(
        id=ident, node=node, names=list(names), mac_address=mac, ipv4_address=ipv4, ipv6_address=ipv6
    )
