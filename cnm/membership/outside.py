"""What is said of a host that is in no cluster, or not yet: without what a cluster needs."""

from __future__ import annotations

from collections.abc import Sequence

from cnm.wire.cluster import ClusterStatus


def status(state: str, warnings: Sequence[str] = ()) -> ClusterStatus:
    """Nothing but its state."""
    return ClusterStatus(
        state=state,
        stale=False,
        cluster_id="",
        created="",
        name="",
        role="",
        advertise="",
        vxlan_port=0,
        certificate_expires="",
        certificate_since="",
        authority_expires="",
        members=[],
        nodes=[],
        warnings=list(warnings),
    )
