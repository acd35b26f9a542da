"""`docker network create` and `rm`, towards the plugin."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.support.fake_dockerd.errors import DockerError, ProtocolViolation
from tests.support.fake_dockerd.ipam import Ipam, allocate, release
from tests.support.fake_dockerd.model import Network, Pool, Subnet
from tests.support.fake_dockerd.plugin import Plugin
from tests.support.fake_dockerd.versions import Version


class NetworkDriver:
    """The network half of the plugin's calls, as far as networks go."""

    def __init__(self, name: str, plugin: Plugin, version: Version) -> None:
        self.name, self._plugin, self._version = name, plugin, version
        self._checks_gateways = False

    def activate(self) -> None:
        """Asks for the capabilities. Raises ProtocolViolation where they make dockerd refuse the driver."""
        capabilities = self._plugin.ask("/NetworkDriver.GetCapabilities")
        self._checks_gateways = bool(capabilities.get("GwAllocChecker"))

    def create(self, network: Network, ipam: Ipam, subnets: list[Subnet]) -> None:
        """Asks for the pools, then creates; gives them back where that fails."""
        ours = network.driver == self.name
        allocate(network, ipam, subnets, self._needs_no_gateway(network) if ours else (False, False))
        if not ours:
            return
        try:
            self._plugin.ask("/NetworkDriver.CreateNetwork", self._request(network))
        except (DockerError, ProtocolViolation):
            release(network, ipam)
            raise

    def remove(self, network: Network, ipam: Ipam) -> None:
        """Gives the pools back, then deletes; a refusal is ignored."""
        release(network, ipam)
        if network.driver == self.name:
            with contextlib.suppress(DockerError):
                self._plugin.ask("/NetworkDriver.DeleteNetwork", {"NetworkID": network.id})

    def _needs_no_gateway(self, network: Network) -> tuple[bool, bool]:
        """For IPv4 and IPv6, whether the driver does without a gateway from IPAM."""
        if not (self._checks_gateways and self._version.asks_gateway_check):
            return False, False
        answer = self._plugin.ask("/NetworkDriver.GwAllocCheck", {"Options": self._options(network)})
        return bool(answer.get("SkipIPv4")), bool(answer.get("SkipIPv6"))

    def _request(self, network: Network) -> dict[str, Any]:
        return {
            "NetworkID": network.id,
            "Options": self._options(network),
            "IPv4Data": [self._pool_data(pool) for pool in network.pools if not pool.v6],
            "IPv6Data": [self._pool_data(pool) for pool in network.pools if pool.v6],
        }

    def _options(self, network: Network) -> dict[str, Any]:
        options: dict[str, Any] = {
            "com.docker.network.enable_ipv6": network.ipv6,
            "com.docker.network.generic": dict(sorted(network.options.items())),
        }
        if self._version.ipv4_can_be_off:
            options["com.docker.network.enable_ipv4"] = network.ipv4
        if network.internal:
            options["com.docker.network.internal"] = True
        return dict(sorted(options.items()))

    def _pool_data(self, pool: Pool) -> dict[str, Any]:
        data: dict[str, Any] = {"AddressSpace": pool.space}
        if pool.auxiliary or (self._version.auxiliary_always and pool.asked.pool):
            data["AuxAddresses"] = dict(sorted(pool.auxiliary.items()))
        if pool.gateway:
            data["Gateway"] = pool.gateway
        return {**data, "Pool": pool.subnet}
