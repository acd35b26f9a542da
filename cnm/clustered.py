"""Networks of the whole cluster: what verbs do beside what they do for every network.

Their definition is in etcd, and every host has a copy of it in its model and store.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import msgspec

from cnm import cluster_guard
from cnm.cluster import networks
from cnm.cluster.records import SharedNetwork
from cnm.drivers import overlay
from cnm.drivers.overlay_options import STANDS_FOR, parse
from cnm.endpoint import Endpoint
from cnm.errors import CnmError, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.model import SHORT
from cnm.network import NameRecord, Network, NetworkState, Owner
from cnm.resources import Resources
from cnm.stand_ins import is_stand_in, original

replace = msgspec.structs.replace

log = logging.getLogger(__name__)


def is_clustered(r: Resources, network: Network) -> bool:
    return r.driver_of(network).capabilities.clustered


def create(r: Resources, network: Network, undo: contextlib.ExitStack) -> Network:
    """The network as the cluster has it, with its VNI. Raises Conflict, EtcdError."""
    if not is_clustered(r, network):
        return network
    options = parse(network.options)
    if network.owner is Owner.DOCKERD:
        return _standing_for(r, network, options.stands_for)
    if options.stands_for:
        raise InvalidParameter(f"unknown option {STANDS_FOR} for driver overlay: it is dockerd's")
    shared = networks.create(
        r.cluster.etcd(),
        SharedNetwork(
            id=network.id,
            name=network.name,
            created=network.created,
            vni=options.vni,
            mtu=network.mtu,
            enable_ipv4=network.enable_ipv4,
            enable_ipv6=network.enable_ipv6,
            internal=network.internal,
            attachable=network.attachable,
            encrypted=options.encrypted,
            multicast=options.multicast,
            pools=network.pools,
            ipam_driver=network.ipam_driver,
            ipam_options=network.ipam_options,
            ipam_config=network.ipam_config,
            options=network.options,
            labels=network.labels,
            docker=network.name if options.docker else "",
        ),
    )
    undo.callback(_uncreate, r, network)
    return replace(network, decided={overlay.VNI: str(shared.vni)})


def _standing_for(r: Resources, network: Network, ident: str) -> Network:
    """What the cluster decided holds for it. Raises Unavailable, InvalidParameter."""
    shared = original(r, ident)
    if shared is None:
        raise Unavailable(
            f"network {ident[:SHORT]} of the cluster is not known on this host (yet): try again"
        )
    asked, known = ({pool.subnet for pool in each.pools} for each in (network, shared))
    if asked != known:
        raise InvalidParameter(
            f"network {shared.name} of the cluster has the subnets {', '.join(sorted(known))}, not "
            f"{', '.join(sorted(asked)) or 'none'}"
        )
    if network.internal != shared.internal:
        raise InvalidParameter(
            f"network {shared.name} of the cluster is {'' if shared.internal else 'not '}internal"
        )
    decided = {overlay.SEGMENT: ident, overlay.VNI: shared.decided[overlay.VNI]}
    options = overlay.options_of(shared)
    decided |= {overlay.ENCRYPTED: "1"} if options.encrypted else {}
    decided |= {overlay.MULTICAST: "1"} if options.multicast else {}
    return replace(network, mtu=shared.mtu, decided=decided)


def _uncreate(r: Resources, network: Network) -> None:
    try:
        networks.delete(r.cluster.etcd(), network.id)
    except CnmError as error:
        log.error(
            "network %s stays in the cluster: %s; remove it with cnmctl network rm", network.name, error
        )


def delete(r: Resources, network: Network) -> None:
    """From the cluster. Raises Forbidden where another host uses it, EtcdError; nothing was changed then."""
    if is_clustered(r, network) and not is_stand_in(network):
        networks.delete(r.cluster.etcd(), network.id)


def has_its_pools(r: Resources, network: Network) -> bool:
    """Whether the pools are the cluster's and went with its record: somebody else may have the subnets already."""
    return is_clustered(r, network) and not is_stand_in(network) and network.ipam_driver == "default"


def change_records(
    r: Resources, network: Network, change: Callable[[Network], tuple[NameRecord, ...]]
) -> tuple[NameRecord, ...]:
    """What `change` makes of the names of a network, in the cluster too where it is one of its networks."""
    if not is_clustered(r, network):
        return change(network)

    def changed(shared: SharedNetwork) -> SharedNetwork:
        return replace(shared, records=change(replace(network, records=shared.records)))

    after = networks.change(r.cluster.etcd(), network.id, changed)
    if after is None:
        raise NotFound(f"network {network.name} was removed from the cluster")
    return after.records


def from_shared(shared: SharedNetwork) -> Network:
    return Network(
        id=shared.id,
        name=shared.name,
        driver="overlay",
        created=shared.created,
        state=NetworkState.ACTIVE,
        scope="global",
        enable_ipv4=shared.enable_ipv4,
        enable_ipv6=shared.enable_ipv6,
        internal=shared.internal,
        attachable=shared.attachable,
        ipam_driver=shared.ipam_driver,
        ipam_options=shared.ipam_options,
        ipam_config=shared.ipam_config,
        pools=shared.pools,
        mtu=shared.mtu,
        decided={overlay.VNI: str(shared.vni)},
        options=shared.options,
        labels=shared.labels,
        records=shared.records,
    )


# This host leaves the cluster


def check_leaving(r: Resources) -> None:
    """Raises Forbidden where this host has endpoints in networks of the cluster."""
    for endpoint in endpoints_here(r):
        raise Forbidden(
            f"network {r.model.network(endpoint.network_id).name} of the cluster has endpoints on this host: "
            "disconnect or remove them first, or leave with --force"
        )


def endpoints_here(r: Resources) -> list[Endpoint]:
    """Of this host in networks of the cluster."""
    networks = [network for network in r.model.networks() if is_clustered(r, network)]
    return [endpoint for network in networks for endpoint in r.model.endpoints_of_network(network.id)]


def forget_all(r: Resources) -> None:
    """This host has left: it has none of the cluster's networks any more."""
    for network in r.model.networks():
        if is_clustered(r, network):
            forget(r, network)
    cluster_guard.forget(r)


def forget(r: Resources, network: Network) -> None:
    """The host's copy of a network that has no endpoints here."""
    r.store.commit(delete=[network], durable=True)
    r.naming.network_gone(network)
    r.model.drop(network)
    r.locks.forget(network.id)
    r.events.publish("network", "destroy", network.id, name=network.name, type=network.driver)
