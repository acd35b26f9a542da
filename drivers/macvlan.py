"""The macvlan driver: an endpoint is an interface with a MAC of its own on the segment of a parent of the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from cnm.drivers import option_values
from cnm.drivers.sub_interface import PARSERS, SubInterfaceDriver, SubInterfaceOptions, parent_name
from cnm.errors import Forbidden
from cnm.kernel.state import LinkKind
from cnm.network import Network, Pool

_PASSTHRU = "passthru"
_MODE = "macvlan_mode"
_PARSERS: option_values.Parsers = {
    **PARSERS,
    _MODE: ("mode", option_values.one_of("bridge", "private", "vepa", _PASSTHRU)),
}


class MacvlanDriver(SubInterfaceDriver):
    """Modes: `bridge` (endpoints on a parent talk), `private`, `vepa` (the switch reflects), `passthru` (one alone)."""

    name = "macvlan"
    kind = LinkKind.MACVLAN

    def parse(self, options: Mapping[str, str]) -> SubInterfaceOptions:
        return _parse(tuple(options.items()))

    def mode(self, options: SubInterfaceOptions) -> str:
        return options.mode

    def check_sharing(self, network: Network, other: Network) -> None:
        for each in (network, other):
            if self.parse(each.options).mode == _PASSTHRU:
                raise Forbidden(
                    f"network {other.name} uses parent interface {parent_name(other)} already, and network {each.name} "
                    "in mode passthru needs it for itself alone: choose another parent or mode"
                )

    def gateway(self, options: SubInterfaceOptions, pool: Pool) -> str:
        """Docker: an auxiliary address of this name stands in for the subnet's gateway."""
        auxiliary = "DefaultGatewayIPv6" if ":" in pool.subnet else "DefaultGatewayIPv4"
        return pool.aux_addresses.get(auxiliary) or pool.gateway


@lru_cache(maxsize=1024)
def _parse(options: tuple[tuple[str, str], ...]) -> SubInterfaceOptions:
    return replace(SubInterfaceOptions(mode="bridge"), **option_values.read("macvlan", options, _PARSERS))
