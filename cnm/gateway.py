"""Which endpoint of a sandbox carries its default route, for each family by itself.

Docker's order: higher gateway priority first, then networks that are not internal, then endpoints that offer more
gateways (dual stack), then the network's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cnm.endpoint import Endpoint
from cnm.kernel.state import Route
from cnm.network import Network

ON_LINK = "on-link"
"""What a driver answers in place of a next hop where the default route is bound to the interface."""


def next_hop(offer: str) -> str:
    """The address that an offer names, "" for none and for a route bound to the interface."""
    return "" if offer == ON_LINK else offer


class Candidate(NamedTuple):
    """A joined endpoint, its network, and the next hops it offers ("" for none, or ON_LINK)."""

    endpoint: Endpoint
    network: Network
    ipv4: str
    ipv6: str


class Gateways(NamedTuple):
    """The candidates that carry the default routes."""

    ipv4: Candidate | None
    ipv6: Candidate | None

    @property
    def endpoint_id(self) -> str:
        """The endpoint that ports are published on: IPv4's, else IPv6's, "" where the sandbox has no way out."""
        chosen = self.ipv4 or self.ipv6
        return chosen.endpoint.id if chosen else ""


def choose(candidates: Iterable[Candidate]) -> Gateways:
    ordered = sorted(candidates, key=_rank)
    return Gateways(
        next((c for c in ordered if c.ipv4), None),
        next((c for c in ordered if c.ipv6), None),
    )


def default_routes(gateways: Gateways) -> tuple[Route, ...]:
    """The default routes in the sandbox."""
    routes = []
    if gateways.ipv4:
        routes.append(Route("0.0.0.0/0", gateways.ipv4.endpoint.ifname, next_hop(gateways.ipv4.ipv4)))
    if gateways.ipv6:
        routes.append(Route("::/0", gateways.ipv6.endpoint.ifname, next_hop(gateways.ipv6.ipv6)))
    return tuple(routes)


def _rank(candidate: Candidate) -> tuple[int, bool, int, str]:
    offers = bool(candidate.ipv4) + bool(candidate.ipv6)
    return (-candidate.endpoint.gw_priority, candidate.network.internal, -offers, candidate.network.name)
