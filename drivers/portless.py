"""What drivers have in common that own no devices: no pools, no ports, no routes, one predefined network."""

from __future__ import annotations

from collections.abc import Sequence

from cnm.driver import Capabilities, HostFacts
from cnm.endpoint import Endpoint, PortMapping, PortRequest
from cnm.errors import InvalidParameter
from cnm.kernel.state import KernelState
from cnm.network import Network
from cnm.sandbox import Sandbox


class PortlessDriver:
    """Base of `host` and `null`: an endpoint is only the record that a sandbox is there."""

    name: str
    capabilities = Capabilities(needs_ipam=False, single_instance=True)

    def validate_network(self, network: Network, others: Sequence[Network], facts: HostFacts) -> Network:
        for option in network.options:
            raise InvalidParameter(f"driver {self.name} has no option {option}")
        return network

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        if endpoint.mac_given or endpoint.ifname_given:
            raise InvalidParameter(
                f"an endpoint of network {network.name} has no interface, so no MAC address or name"
            )
        for option in endpoint.options:
            raise InvalidParameter(f"driver {self.name} has no endpoint option {option}")

    def network_state(self, network: Network, facts: HostFacts) -> tuple[KernelState, ...]:
        return ()

    def join_state(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, facts: HostFacts
    ) -> tuple[KernelState, ...]:
        return ()

    def port_state(
        self, network: Network, endpoint: Endpoint, ports: Sequence[PortMapping], facts: HostFacts
    ) -> tuple[KernelState, ...]:
        return ()

    def bindings(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[tuple[PortRequest, ...], tuple[PortMapping, ...]]:
        return (), ()

    def interface_prefix(self, network: Network) -> str:
        return ""

    def wants_gateways(self, network: Network) -> tuple[bool, bool]:
        return False, False

    def gateways(self, network: Network, endpoint: Endpoint) -> tuple[str, str]:
        return "", ""
