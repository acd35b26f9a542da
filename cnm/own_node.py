"""This host as a node of its cluster: what the others are told of it.

It is remembered, so that the networks of the cluster are as they were when a daemon starts and nobody answers yet.
"""

from __future__ import annotations

import logging
import os

import msgspec

import cnm
from cnm import cluster_guard, probe, segments, wanted
from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import Denied, Etcd, EtcdError
from cnm.cluster.home import Home
from cnm.cluster.records import Cluster, Node
from cnm.errors import CnmError
from cnm.resources import Resources

log = logging.getLogger(__name__)

_REMEMBERED = "own-node"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_LEAST_MTU = 1280


class OwnNode(msgspec.Struct, frozen=True, kw_only=True):
    """What `Cluster.describe` is told."""

    node: Node
    vxlan_port: int
    cluster_id: str
    pool: str = ""
    """Of transport addresses, CIDR text."""


def recall(r: Resources) -> None:
    """Before the start: what was remembered, if this host was in a cluster."""
    known = r.store.setting(_REMEMBERED)
    if known:
        cluster_guard.recall(r)
        own = msgspec.json.decode(known, type=OwnNode)
        r.cluster.describe(_as_now(r, own.node, own.pool), own.vxlan_port, own.cluster_id, own.pool)


def enter(r: Resources, etcd: Etcd, name: str, address: str, *, member: bool) -> None:
    """The host is in its cluster (again), as `name`, and its tunnels end at `address`. Raises EtcdError, Denied where
    that is new here and the cluster does not say what it agreed on, TooNew where it is for newer versions only."""
    known = r.store.setting(_REMEMBERED)
    own = msgspec.json.decode(known, type=OwnNode) if known else None
    if own is not None:
        _check_format(etcd)
    if own is None or own.node.name != name:
        agreed = _agreed(etcd)
        node = Node(name=name, address=address)
        own = OwnNode(node=node, vxlan_port=agreed.vxlan_port, cluster_id=agreed.id, pool=agreed.transport)
    node = msgspec.structs.replace(own.node, address=address, member=member)
    own = msgspec.structs.replace(own, node=_as_now(r, node, own.pool))
    r.store.remember(_REMEMBERED, msgspec.json.encode(own).decode())
    r.cluster.describe(own.node, own.vxlan_port, own.cluster_id, own.pool)
    with r.locks.verbs.shared():
        r.refresh_facts()
        probe.set_up(r, wanted.cluster_limits(r))
    r.cluster.begin(etcd, *segments.known_here(r))


def refresh(r: Resources) -> None:
    """Somebody may have changed the interface that tunnels leave by; told later where nobody answers."""
    try:
        r.cluster.redescribe(lambda node: _as_now(r, node, r.cluster.transport_pool))
    except (EtcdError, Denied) as error:
        log.warning("the cluster hears later of how this host is now: %s", error)


def forget(r: Resources) -> None:
    r.store.remember(_REMEMBERED, "")


def _agreed(etcd: Etcd) -> Cluster:
    found = etcd.get(keys.CLUSTER)
    if found is None:
        raise EtcdError("the cluster has no record of its own: see cnmctl cluster status")
    agreed = records.decode(found.value, Cluster)
    records.check_format(agreed)
    return agreed


def _check_format(etcd: Etcd) -> None:
    """Where nobody answers, this host goes on as it was."""
    try:
        _agreed(etcd)
    except (EtcdError, Denied) as error:
        log.debug("the cluster does not say what it agreed on: %s", error)


def _as_now(r: Resources, node: Node, pool: str) -> Node:
    uplink = r.kernel.holder(node.address)
    now = msgspec.structs.replace(
        node,
        mtu=uplink.mtu if uplink else _LEAST_MTU,
        version=cnm.__version__,
        boot_id=_boot_id(),
        certificate_expires=_certificate_expires(r.settings.root),
    )
    return r.encryption.describe(now, pool)


def _certificate_expires(root: str) -> str:
    """RFC 3339; "" where it cannot be read, which membership tells of."""
    from cnm.cluster import certificates, registry

    home = Home(root)
    try:
        _, certificate = certificates.split(home.read(home.node))
        return registry.moment(certificates.life(certificate).expires.timestamp())
    except CnmError as error:
        log.debug("%s", error)
        return ""


def _boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        log.debug("%s: %s", _BOOT_ID, os.strerror(error.errno or 0))
        return ""
