"""Networks of dockerd's that stand for one of the cluster's: another id on each host, the same segment."""

from __future__ import annotations

from cnm.drivers import overlay
from cnm.endpoint import Endpoint
from cnm.network import Network
from cnm.resources import Resources


def is_stand_in(network: Network) -> bool:
    return overlay.SEGMENT in network.decided


def original(r: Resources, ident: str) -> Network | None:
    """The cluster's network of this id, as far as it is known here."""
    found = next((network for network in r.model.networks() if network.id == ident), None)
    if found is None or is_stand_in(found) or not r.driver_of(found).capabilities.clustered:
        return None
    return found


def stand_ins(r: Resources, ident: str) -> list[Network]:
    """What stands for the cluster's network of this id."""
    return [network for network in r.model.networks() if network.decided.get(overlay.SEGMENT) == ident]


def of_segment(r: Resources, ident: str) -> Network | None:
    """A network on this segment: the cluster's, or what stands for one that was removed from the cluster."""
    return original(r, ident) or next(iter(stand_ins(r, ident)), None)


def taking_part(r: Resources) -> list[Network]:
    """A network of each segment that this host takes part in."""
    found = (of_segment(r, ident) for ident in r.participation.networks())
    return [network for network in found if network is not None]


def endpoints_on(r: Resources, ident: str) -> list[Endpoint]:
    """All of this host's that are in the cluster's network of this id, dockerd's among them."""
    networks = (ident, *(network.id for network in stand_ins(r, ident)))
    return [endpoint for each in networks for endpoint in r.model.endpoints_of_network(each)]
