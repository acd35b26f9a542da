"""Network namespaces as pytest fixtures: topologies from a file, packets sent, captured and asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netns_fixtures.errors import CommandFailed, IsolationError, KernelRefused, NetnsError, TopologyError
from netns_fixtures.host import Host
from netns_fixtures.isolation import is_isolated, isolate
from netns_fixtures.loader import load, parse
from netns_fixtures.outcome import Outcome, Status, probe_all
from netns_fixtures.process import Process
from netns_fixtures.server import Peer, Server, TcpServer, UdpServer
from netns_fixtures.spec import BridgeSpec, EndSpec, HostSpec, LinkSpec, RouteSpec, TopologySpec
from netns_fixtures.topology import Topology

if TYPE_CHECKING:
    from netns_fixtures.capture import Capture
    from netns_fixtures.matching import Match, match

__all__ = [
    "BridgeSpec",
    "Capture",
    "CommandFailed",
    "EndSpec",
    "Host",
    "HostSpec",
    "IsolationError",
    "KernelRefused",
    "LinkSpec",
    "Match",
    "NetnsError",
    "Outcome",
    "Peer",
    "Process",
    "RouteSpec",
    "Server",
    "Status",
    "TcpServer",
    "Topology",
    "TopologyError",
    "TopologySpec",
    "UdpServer",
    "is_isolated",
    "isolate",
    "load",
    "match",
    "parse",
    "probe_all",
]


def __getattr__(name: str) -> Any:
    """What needs scapy, which takes a fifth of a second to import, is imported when it is first asked for."""
    if name == "Capture":
        from netns_fixtures.capture import Capture

        return Capture
    if name in ("Match", "match"):
        from netns_fixtures import matching

        return getattr(matching, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
