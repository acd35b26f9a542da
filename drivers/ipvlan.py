"""The ipvlan driver: an endpoint is an interface on a parent of the host that shares the parent's MAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import msgspec

from cnm.drivers import option_values
from cnm.drivers.sub_interface import PARSERS, SubInterfaceDriver, SubInterfaceOptions, parent_name
from cnm.endpoint import Endpoint
from cnm.errors import Forbidden, InvalidParameter
from cnm.kernel.state import LinkKind
from cnm.network import Network, Pool

_L2 = "l2"
_PARSERS: option_values.Parsers = {
    **PARSERS,
    "ipvlan_mode": ("mode", option_values.one_of(_L2, "l3", "l3s")),
    "ipvlan_flag": ("flag", option_values.one_of("bridge", "private", "vepa")),
}


class IpvlanDriver(SubInterfaceDriver):
    """Modes: `l2` (one segment with the parent), `l3` (routed by it, without ARP), `l3s` (and seen by netfilter)."""

    name = "ipvlan"
    kind = LinkKind.IPVLAN
    capabilities = msgspec.structs.replace(SubInterfaceDriver.capabilities, own_mac=False)

    def parse(self, options: Mapping[str, str]) -> SubInterfaceOptions:
        return _parse(tuple(options.items()))

    def mode(self, options: SubInterfaceOptions) -> str:
        return f"{options.mode}:{options.flag}"

    def check_sharing(self, network: Network, other: Network) -> None:
        """The mode is the parent's, not the endpoint's: Docker lets it serve one network."""
        raise Forbidden(
            f"network {other.name} uses parent interface {parent_name(other)} already, and an ipvlan network needs it "
            f"for itself alone: choose another parent, or a VLAN of it ({parent_name(other)}.10)"
        )

    def gateway(self, options: SubInterfaceOptions, pool: Pool) -> str:
        """None in layer 3: nobody answers for neighbours there, the parent's host routes."""
        return pool.gateway if options.mode == _L2 else ""

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        super().validate_endpoint(network, endpoint)
        if endpoint.mac_given:
            raise InvalidParameter(
                "ipvlan interfaces do not support custom mac address assignment: they have their parent's"
            )

    def mac(self, endpoint: Endpoint) -> str:
        return ""


@lru_cache(maxsize=1024)
def _parse(options: tuple[tuple[str, str], ...]) -> SubInterfaceOptions:
    return replace(SubInterfaceOptions(mode=_L2), **option_values.read("ipvlan", options, _PARSERS))
