"""The probe segment on this host: what must exist of it, from the moment the host is described until it leaves."""

from __future__ import annotations

import ipaddress
import logging

from cnm import cluster_guard
from cnm.cluster import probe
from cnm.cluster.probe import ProbeSegment, Where
from cnm.drivers import overlay
from cnm.errors import CnmError
from cnm.kernel.state import Address, Group, KernelState, Link, LinkKind, Vxlan
from cnm.mac import derived_mac
from cnm.resources import Resources

TUNNEL = f"vx{probe.VNI}"

log = logging.getLogger(__name__)


def namespace(r: Resources) -> str:
    """Path of the segment's namespace, "" where this host has none."""
    return f"{r.settings.netns}/{probe.short_id(r.cluster.id)}" if r.cluster.id else ""


def wanted(r: Resources) -> tuple[KernelState, ...]:
    """Everything in it but the other hosts' addresses."""
    node, underlay = r.cluster.node, r.facts.underlay
    if node is None or underlay is None or not r.cluster.id:
        return ()
    ident = probe.short_id(r.cluster.id)
    mtu = node.mtu - overlay.ENCAPSULATION[ipaddress.ip_address(node.address).version]
    bridge = Link(
        name=overlay.BRIDGE,
        kind=LinkKind.BRIDGE,
        mac=probe.mac(node.name),
        mtu=mtu,
        alias=f"cnm:probe:{ident}",
        group=Group.BRIDGE,
    )
    tunnel = Link(
        name=TUNNEL,
        kind=LinkKind.VXLAN,
        mac=derived_mac("06:42", f"probe {ident} {node.address}"),
        mtu=mtu,
        master=overlay.BRIDGE,
        alias=f"cnm:tunnel:{ident}",
        group=Group.SEGMENT,
        vxlan=Vxlan(probe.VNI, node.address, underlay.port),
    )
    own = Address(overlay.BRIDGE, f"{probe.address(r.cluster.id, node.name)}/64")
    return (KernelState(namespace=namespace(r), links=(bridge, tunnel), addresses=(own,), own=True),)


def recall(r: Resources) -> None:
    """At start-up, before everything is compared: the namespace is there."""
    path = namespace(r)
    if not path:
        return
    try:
        if not r.kernel.namespace_alive(path):
            r.kernel.remove_namespace(path)
            r.kernel.create_namespace(path, bridged=True)
    except CnmError as error:
        log.error("the paths to other hosts cannot be probed: %s", error)


def set_up(r: Resources, limits: KernelState) -> None:
    """This host is in a cluster; `limits` are to be raised with it.

    What the kernel refuses is logged, and a finding of doctor: networks work without.
    """
    recall(r)
    for state in (limits, *wanted(r)):
        try:
            r.kernel.apply([state])
        except CnmError as error:
            log.error("not all that a host of a cluster needs is there: %s; cnmctl doctor shows it", error)
    cluster_guard.follow(r)
    follow(r)


def follow(r: Resources) -> None:
    """The other hosts' addresses are written as they become known."""
    if r.cluster.id:
        where = Where(namespace(r), overlay.BRIDGE, TUNNEL)
        r.cluster.probe = ProbeSegment(r.cluster.id, r.cluster.node_name, r.kernel, where)


def take_down(r: Resources) -> None:
    """Before this host leaves; the tunnel first: its number can be used again at once then."""
    path = namespace(r)
    r.cluster.probe = None
    if path and r.kernel.namespace_alive(path):
        r.kernel.remove(wanted(r), wait=True)
    if path:
        r.kernel.remove_namespace(path)
