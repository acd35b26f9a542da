"""What the firewall must know of the cluster: whose tunnels end here, and which networks never travel in the clear."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cnm.cluster import probe
from cnm.drivers import overlay
from cnm.firewall.elements import overlay_elements
from cnm.kernel.state import FirewallElement, KernelState
from cnm.resources import Resources
from cnm.stand_ins import taking_part

_KNOWN = "cluster-nodes"
"""Of the store: where tunnels of the other nodes ended when the cluster last answered."""


def wanted_elements(r: Resources) -> tuple[FirewallElement, ...]:
    """For the networks of the cluster that this host takes part in, and the probe segment."""
    if r.facts.underlay is None:
        return ()
    networks = taking_part(r)
    vnis = [int(network.decided[overlay.VNI]) for network in networks]
    if r.cluster.id:
        vnis.append(probe.VNI)
    encrypted = [
        int(network.decided[overlay.VNI]) for network in networks if overlay.options_of(network).encrypted
    ]
    return overlay_elements(vnis, encrypted, r.cluster_ends, r.facts.underlay.port)


def follow(r: Resources) -> None:
    """Make it so for the networks that this host takes part in now. Raises KernelError."""
    with r.locks.host:
        _change(r)


def nodes_changed(r: Resources) -> None:
    """Where tunnels end is remembered: a daemon that starts while the cluster is away must not shut out its nodes.

    Callers hold `locks.verbs` shared. Raises KernelError.
    """
    alive = tuple(sorted({node.address for node in r.cluster.nodes.all()}))
    with r.locks.host:
        if not alive or alive == r.cluster_ends:
            return
        r.cluster_ends = alive
        r.store.remember(_KNOWN, json.dumps(alive))
        _change(r)


def recall(r: Resources) -> None:
    """Before the start."""
    r.cluster_ends = tuple(json.loads(r.store.setting(_KNOWN) or "[]"))


def forget(r: Resources) -> None:
    """The host has left the cluster."""
    with r.locks.host:
        r.cluster_ends = ()
        r.store.remember(_KNOWN, "[]")
        _change(r)


def _change(r: Resources) -> None:
    """What comes is let in before what goes is shut out."""
    before, after = r.cluster_elements, wanted_elements(r)
    gone = _without(before, after)
    come = _without(after, before)
    if come:
        r.kernel.apply([KernelState(elements=come)])
    if gone:
        r.kernel.remove([KernelState(elements=gone)])
    r.cluster_elements = after


def _without(
    elements: Sequence[FirewallElement], others: Sequence[FirewallElement]
) -> tuple[FirewallElement, ...]:
    known = frozenset(others)
    return tuple(element for element in elements if element not in known)
