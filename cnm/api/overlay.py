"""/cnm/v1, the part about the hosts behind an overlay: the paths to them, and who is where in a network."""

from __future__ import annotations

from cnm.api.routes import Call, Routes
from cnm.wire.overlay import NetworkPeers, NodePing, PingRequest

routes = Routes()


@routes.get("/cnm/v1/networks/{network}/peers", answer=NetworkPeers, query={"endpoints": "also list these"})
def network_peers(call: Call[None], network: str) -> NetworkPeers:
    """Show which hosts have endpoints in a network of the cluster."""
    return call.backend.network_peers(network, endpoints=call.flag("endpoints"))


@routes.get("/cnm/v1/cluster/ping", answer=list[NodePing])
def last_pings(call: Call[None]) -> list[NodePing]:
    """Show how the other nodes of the cluster were when cnmd looked last: it does so every minute."""
    return call.backend.last_pings()


@routes.post("/cnm/v1/cluster/ping", body=PingRequest, answer=list[NodePing])
def ping_nodes(call: Call[PingRequest]) -> list[NodePing]:
    """Ask other nodes of the cluster for a sign of life, over the path that networks use: two seconds at most."""
    return call.backend.ping_nodes(call.body.nodes or [])
