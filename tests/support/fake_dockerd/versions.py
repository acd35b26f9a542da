"""In what the three versions of dockerd differ on the wire, as their recorded traffic shows."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Gateways(enum.Enum):
    """How a version tells endpoints that they have become, or are no longer, the way out of a sandbox."""

    IPV4_ONLY = enum.auto()
    """One gateway, the first endpoint with an IPv4 gateway; internal networks are not programmed when joining."""
    PER_FAMILY = enum.auto()
    """One gateway for each family; options say whether IPv6 goes elsewhere."""
    REMEMBERED = enum.auto()
    """As above, but only changes are told, and only of endpoints that joined since dockerd started."""


@dataclass(frozen=True)
class Version:
    """Traits of one version of dockerd."""

    name: str
    host: str
    """The Host header."""
    gateways: Gateways
    spaces_at_activation: bool
    """IpamDriver.GetDefaultAddressSpaces is asked once, with the capabilities; otherwise with each pool."""
    ipv4_can_be_off: bool
    """`--ipv4=false` counts, and the options tell of IPv4."""
    auxiliary_always: bool
    """Subnets that the user gave have AuxAddresses even without any."""
    names_endpoints: bool
    """RequestAddress has the container's name."""
    key_exists_at_start: bool
    """The sandbox's namespace is there when its first endpoints join."""
    ports_before_internal: bool
    """EndpointOperInfo of joined endpoints is asked even before joining an internal network."""
    asks_joined_endpoint_first: bool
    """After a join the new endpoint's EndpointOperInfo is asked once more, before all."""
    bridge_hides_endpoints: bool
    """No EndpointOperInfo while the sandbox has an endpoint in docker_gwbridge."""
    exposes_published_only: bool
    """CreateEndpoint tells of published ports only; otherwise of all exposed ones."""
    asks_live_endpoints: bool
    """EndpointOperInfo of running containers' endpoints after a start with live-restore."""
    rejected_pools_backwards: bool
    """Pools that overlap the host's routes are released last first."""
    asks_gateway_check: bool
    """NetworkDriver.GwAllocCheck, where the plugin wants it."""
    moves_gateway_while_deleting: bool
    """While a sandbox goes, each leave makes the next endpoint its gateway."""
    forgets_failed_network: bool
    """A container whose Join failed is no longer of that network; known of 29.7 only."""
    reuses_link_numbers: bool
    """A moved link gets the lowest free number; otherwise the next one never used."""


VERSIONS = {
    version.name: version
    for version in (
        Version(
            name="20.10",
            host="",
            gateways=Gateways.IPV4_ONLY,
            spaces_at_activation=True,
            ipv4_can_be_off=False,
            auxiliary_always=False,
            names_endpoints=False,
            key_exists_at_start=False,
            ports_before_internal=True,
            asks_joined_endpoint_first=True,
            bridge_hides_endpoints=True,
            exposes_published_only=False,
            asks_live_endpoints=False,
            rejected_pools_backwards=True,
            asks_gateway_check=False,
            moves_gateway_while_deleting=True,
            forgets_failed_network=False,
            reuses_link_numbers=False,
        ),
        Version(
            name="28.5",
            host="plugin.moby.localhost",
            gateways=Gateways.PER_FAMILY,
            spaces_at_activation=False,
            ipv4_can_be_off=True,
            auxiliary_always=False,
            names_endpoints=False,
            key_exists_at_start=True,
            ports_before_internal=False,
            asks_joined_endpoint_first=False,
            bridge_hides_endpoints=False,
            exposes_published_only=False,
            asks_live_endpoints=True,
            rejected_pools_backwards=False,
            asks_gateway_check=True,
            moves_gateway_while_deleting=True,
            forgets_failed_network=False,
            reuses_link_numbers=True,
        ),
        Version(
            name="29.7",
            host="plugin.moby.localhost",
            gateways=Gateways.REMEMBERED,
            spaces_at_activation=False,
            ipv4_can_be_off=True,
            auxiliary_always=True,
            names_endpoints=True,
            key_exists_at_start=True,
            ports_before_internal=False,
            asks_joined_endpoint_first=False,
            bridge_hides_endpoints=False,
            exposes_published_only=True,
            asks_live_endpoints=True,
            rejected_pools_backwards=False,
            asks_gateway_check=True,
            moves_gateway_while_deleting=False,
            forgets_failed_network=True,
            reuses_link_numbers=True,
        ),
    )
}
"""By the name that FakeDockerd is given."""
