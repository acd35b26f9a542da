"""What is worth a warning about a host's part in a cluster: a line each, for `cnmctl status`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cnm import wanted
from cnm.cluster.etcd.contract import Following
from cnm.cluster.records import SharedNetwork
from cnm.clustered import is_clustered
from cnm.drivers import overlay
from cnm.paths import Paths
from cnm.pinging import Health
from cnm.resources import Resources

_EXPIRY = timedelta(days=7)
"""Certificates are renewed long before."""


def standing_warnings(r: Resources, paths: Paths) -> Iterator[str]:
    """How this host stands in its cluster; nothing where it is in none."""
    if not r.cluster.present:
        return
    registered = paths.registered()
    if registered and r.cluster.node_name not in registered:
        yield "this host was removed from the cluster by another one: cnmctl cluster leave, and join again"
    elif not r.cluster.is_alive:
        yield "the other hosts of the cluster do not see this one, and send it nothing: see cnmctl cluster status"
    elif r.cluster.stands is not Following.CURRENT:
        yield "the cluster does not answer: what other hosts change is heard later; see cnmctl cluster status"
    yield from _expiring(r)


def network_warnings(
    r: Resources, paths: Paths, hidden: Sequence[SharedNetwork], clashes: Sequence[str]
) -> Iterator[str]:
    """Nothing where this host is in no cluster. `hidden` are networks whose name another one has here, `clashes`
    addresses that somebody else claims, too."""
    if not r.cluster.present:
        return
    for network in hidden:
        yield (
            f"network {network.name} of the cluster is hidden here by a network of this host with the same name: "
            "remove that one"
        )
    yield from _overlaps(r)
    yield from _too_big(r)
    yield from _seen(paths)
    yield from r.encryption.warnings()
    for address in clashes:
        yield f"address {address} of this host is claimed by another one, too: disconnect one of them"
    for sysctl in wanted.cluster_limits(r).sysctls:
        yield (
            f"the kernel remembers few neighbours ({sysctl.key} is less than {sysctl.value}): with many endpoints "
            "packets are lost; cnmctl doctor --repair raises it"
        )


def _overlaps(r: Resources) -> Iterator[str]:
    """What the host itself is on cannot be reached from sandboxes of a network with the same addresses."""
    own = [ipaddress.ip_network(route) for route in r.kernel.on_link_routes()]
    for network in r.model.networks():
        if not is_clustered(r, network):
            continue
        for pool in network.pools_v4():
            for route in own:
                if ipaddress.ip_network(pool.subnet).overlaps(route):
                    yield (
                        f"subnet {pool.subnet} of network {network.name} overlaps with {route}, which this host is on: "
                        f"sandboxes of {network.name} do not reach that; make the network anew with another subnet"
                    )


def _too_big(r: Resources) -> Iterator[str]:
    """Networks from before a host came that has less room."""
    alive = r.cluster.nodes.all()
    if not alive:
        return
    rooms = {False: [(_room(node.mtu, node.address), node.name) for node in alive]}
    rooms[True] = [(_room(node.transport_mtu, node.transport), node.name) for node in alive if node.transport]
    for network in r.cluster.networks():
        most, narrowest = min(rooms[network.encrypted], default=(network.mtu, ""))
        if network.mtu > most:
            yield (
                f"network {network.name} has packets of {network.mtu} bytes, and {narrowest} has room for "
                f"{most}: raise the MTU there, or make the network anew"
            )


def _room(mtu: int, address: str) -> int:
    return mtu - overlay.ENCAPSULATION[ipaddress.ip_address(address).version]


def _seen(paths: Paths) -> Iterator[str]:
    for seen in paths.latest():
        if seen.health is Health.NARROW and seen.answer is not None:
            yield (
                f"MTU along the path to {seen.name} is {seen.answer.mtu}, networks use {seen.answer.target.size}: "
                "lower theirs, or raise the underlay's"
            )
        elif seen.words:
            yield (
                f"node {seen.name} {seen.words}"
                if seen.health is Health.AWAY
                else f"node {seen.name}: {seen.words}"
            )


def _expiring(r: Resources) -> Iterator[str]:
    """Nodes renew their certificates by themselves: one that does not is worth a word on every host."""
    own = [r.cluster.node] if r.cluster.node and r.cluster.nodes.get(r.cluster.node_name) is None else []
    for node in sorted([*own, *r.cluster.nodes.all()], key=lambda each: each.name):
        try:
            expires = datetime.fromisoformat(node.certificate_expires)
        except ValueError:
            continue
        left = expires.replace(tzinfo=expires.tzinfo or UTC) - datetime.now(UTC)
        if left < _EXPIRY:
            does = "has expired" if left < timedelta(0) else "expires"
            yield (
                f"the certificate of node {node.name} {does} ({node.certificate_expires}): see its cnmd's log for why "
                "it is not renewed"
            )
