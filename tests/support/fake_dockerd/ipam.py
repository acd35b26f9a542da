"""Where a network's pools and addresses come from: the plugin, dockerd itself, or nowhere."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from tests.support.fake_dockerd.answers import GATEWAY_DATA
from tests.support.fake_dockerd.errors import DockerError, PluginError, ProtocolViolation
from tests.support.fake_dockerd.model import Network, Pool, Subnet
from tests.support.fake_dockerd.plugin import Plugin
from tests.support.fake_dockerd.versions import Version

_GATEWAY_OPTIONS = {"RequestAddressType": "com.docker.network.gateway"}
Overlaps = Callable[[str], bool]


class Ipam(abc.ABC):
    """An IPAM driver as a network uses it."""

    space = ""

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Is called once for a network, before its pools are asked for."""

    @abc.abstractmethod
    def request_pool(self, subnet: Subnet, v6: bool, options: dict[str, str], *, gateway: bool) -> Pool:
        """A pool with its auxiliary addresses, and its gateway where `gateway` is set. On failure nothing is kept."""

    @abc.abstractmethod
    def request_address(self, pool: Pool, wanted: str, options: dict[str, str] | None) -> str:
        """An address in CIDR notation, "" from a driver that has none."""

    @abc.abstractmethod
    def release_address(self, pool_id: str, address: str) -> None:
        """Gives a bare address back; a refusal is ignored, as dockerd does."""

    @abc.abstractmethod
    def release_pool(self, pool_id: str) -> None:
        """Gives a pool back; a refusal is ignored."""


class PluginIpam(Ipam):
    """The plugin's IPAM driver. `overlaps` says whether a pool overlaps the host's routes or name servers."""

    def __init__(self, plugin: Plugin, version: Version, overlaps: Overlaps) -> None:
        self._plugin, self._version, self._overlaps = plugin, version, overlaps
        self.requires_mac = False
        self.requires_replay = False

    def activate(self) -> None:
        """Asks for the capabilities; a driver that has none to tell is taken as it is."""
        with contextlib.suppress(PluginError):
            capabilities = self._plugin.ask("/IpamDriver.GetCapabilities")
            self.requires_mac = bool(capabilities.get("RequiresMACAddress"))
            self.requires_replay = bool(capabilities.get("RequiresRequestReplay"))
        if self._version.spaces_at_activation:
            self.ask_spaces()

    def ask_spaces(self) -> None:
        """Asks for the address spaces."""
        answer = self._plugin.ask("/IpamDriver.GetDefaultAddressSpaces")
        self.space = answer.get("LocalDefaultAddressSpace", "")

    def prepare(self) -> None:
        if not self._version.spaces_at_activation:
            self.ask_spaces()

    def request_pool(self, subnet: Subnet, v6: bool, options: dict[str, str], *, gateway: bool) -> Pool:
        self.prepare()
        answer = self._request_free_pool(subnet, v6, options)
        pool = Pool(
            asked=subnet, v6=v6, space=self.space, id=answer["PoolID"], subnet=_canonical(answer["Pool"])
        )
        with self._released_on_failure(pool.id):
            if gateway or subnet.gateway:
                pool.gateway = self._gateway(pool, subnet.gateway, answer.get("Data") or {})
            for name, address in subnet.auxiliary.items():
                pool.auxiliary[name] = _canonical_address(self._request(pool.id, address, None))
        return pool

    def replay_pool(self, pool: Pool, options: dict[str, str]) -> None:
        """Asks again, after a restart, for what a network had."""
        if not self._version.spaces_at_activation:
            self.ask_spaces()
        request = self._pool_request(Subnet(pool.subnet, pool.asked.ip_range), pool.v6, options)
        pool.id = self._plugin.ask("/IpamDriver.RequestPool", request, again=True)["PoolID"]
        with self._released_on_failure(pool.id):
            if pool.gateway:
                gateway = str(ip_interface(pool.gateway).ip)
                self._request(pool.id, gateway, _GATEWAY_OPTIONS, again=True)
            for address in pool.auxiliary.values():
                self._request(pool.id, str(ip_interface(address).ip), None, again=True)

    def replay_address(self, pool: Pool, address: str) -> None:
        """Asks again for a live endpoint's address; a refusal is only logged."""
        with contextlib.suppress(DockerError):
            self._request(pool.id, address, None, again=True)

    def request_address(self, pool: Pool, wanted: str, options: dict[str, str] | None) -> str:
        return _canonical_address(self._request(pool.id, wanted, options))

    def release_address(self, pool_id: str, address: str) -> None:
        with contextlib.suppress(DockerError):
            self._plugin.ask("/IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": address})

    def release_pool(self, pool_id: str) -> None:
        with contextlib.suppress(DockerError):
            self._plugin.ask("/IpamDriver.ReleasePool", {"PoolID": pool_id})

    def _gateway(self, pool: Pool, wanted: str, data: dict[str, str]) -> str:
        if GATEWAY_DATA in data and not wanted:
            return data[GATEWAY_DATA]
        return _canonical_address(self._request(pool.id, wanted, _GATEWAY_OPTIONS))

    def _request(
        self, pool_id: str, address: str, options: dict[str, str] | None, *, again: bool = False
    ) -> str:
        request = {"PoolID": pool_id, "Address": address, "Options": options}
        answer: str = self._plugin.ask("/IpamDriver.RequestAddress", request, again=again)["Address"]
        return answer

    def _pool_request(self, subnet: Subnet, v6: bool, options: dict[str, str]) -> dict[str, Any]:
        return {
            "AddressSpace": self.space,
            "Pool": subnet.pool,
            "SubPool": subnet.ip_range,
            "Options": dict(sorted(options.items())),
            "V6": v6,
        }

    def _request_free_pool(self, subnet: Subnet, v6: bool, options: dict[str, str]) -> dict[str, Any]:
        """Keeps pools that overlap the host's routes until one does not, then gives them back."""
        request = self._pool_request(subnet, v6, options)
        rejected: list[str] = []
        try:
            while True:
                answer = self._plugin.ask("/IpamDriver.RequestPool", request)
                if subnet.pool or not self._overlaps(answer["Pool"]):
                    return answer
                rejected.append(answer["PoolID"])
        finally:
            for pool_id in reversed(rejected) if self._version.rejected_pools_backwards else rejected:
                self.release_pool(pool_id)

    @contextlib.contextmanager
    def _released_on_failure(self, pool_id: str) -> Iterator[None]:
        """dockerd gives the pool back without the addresses that it had got from it."""
        try:
            yield
        except (DockerError, ProtocolViolation):
            self.release_pool(pool_id)
            raise


class OwnIpam(Ipam):
    """dockerd's own allocator, or another plugin's: nothing that this plugin hears of."""

    def __init__(self, space: str = "LocalDefault") -> None:
        self.space = space
        self._held: dict[str, set[str]] = {}
        self._networks = 17

    def request_pool(self, subnet: Subnet, v6: bool, options: dict[str, str], *, gateway: bool) -> Pool:
        text = subnet.pool or self._next_subnet(v6)
        pool = Pool(asked=subnet, v6=v6, space=self.space, id=f"{self.space}/{text}", subnet=_canonical(text))
        if pool.id in self._held:
            raise DockerError("Pool overlaps with other one on this address space")
        self._held[pool.id] = set()
        if gateway or subnet.gateway:
            pool.gateway = self.request_address(pool, subnet.gateway, None)
        pool.auxiliary = {name: self.request_address(pool, ip, None) for name, ip in subnet.auxiliary.items()}
        return pool

    def request_address(self, pool: Pool, wanted: str, options: dict[str, str] | None) -> str:
        subnet, held = ip_network(pool.subnet), self._held[pool.id]
        if wanted in held:
            raise DockerError("Address already in use")
        address = wanted or next(str(ip) for ip in subnet.hosts() if str(ip) not in held)
        held.add(address)
        return f"{ip_address(address)}/{subnet.prefixlen}"

    def release_address(self, pool_id: str, address: str) -> None:
        self._held[pool_id].discard(address)

    def release_pool(self, pool_id: str) -> None:
        del self._held[pool_id]

    def _next_subnet(self, v6: bool) -> str:
        self._networks += 1
        return f"fd00:0:0:{self._networks:x}::/64" if v6 else f"172.{self._networks}.0.0/16"


class NullIpam(Ipam):
    """`--ipam-driver null`: a pool of everything, and no addresses."""

    space = "null"

    def request_pool(self, subnet: Subnet, v6: bool, options: dict[str, str], *, gateway: bool) -> Pool:
        text = "::/0" if v6 else "0.0.0.0/0"
        return Pool(asked=subnet, v6=v6, space=self.space, id=f"null/{text}", subnet=text)

    def request_address(self, pool: Pool, wanted: str, options: dict[str, str] | None) -> str:
        return ""

    def release_address(self, pool_id: str, address: str) -> None:
        """There are none."""

    def release_pool(self, pool_id: str) -> None:
        """There are none."""


def allocate(
    network: Network, ipam: Ipam, subnets: list[Subnet], no_gateway: tuple[bool, bool] = (False, False)
) -> None:
    """Gives a network its pools, IPv4 first; a family that is on and has no subnet gets one of the driver's choice.

    `no_gateway` says for IPv4 and IPv6 whether a gateway is asked for only where the user wants one.

    When one fails, those of its family before it are given back without their addresses, the other family's with
    them.
    """
    ipam.prepare()
    for v6 in [False] * network.ipv4 + [True] * network.ipv6:
        chosen = [s for s in subnets if s.pool and (ip_network(s.pool).version == 6) is v6]
        chosen = chosen or [s for s in subnets if not s.pool and not v6] or [Subnet()]
        done: list[Pool] = []
        try:
            for subnet in chosen:
                pool = ipam.request_pool(subnet, v6, network.ipam_options, gateway=not no_gateway[v6])
                done.append(pool)
        except (DockerError, ProtocolViolation):
            for pool in reversed(done):
                ipam.release_pool(pool.id)
            release(network, ipam)
            raise
        network.pools += done


def release(network: Network, ipam: Ipam) -> None:
    """Gives back gateways, auxiliary addresses and pools."""
    for pool in network.pools:
        for address in [pool.gateway, *pool.auxiliary.values()]:
            if address:
                ipam.release_address(pool.id, str(ip_interface(address).ip))
        ipam.release_pool(pool.id)
    network.pools = []


def _canonical(subnet: str) -> str:
    return str(ip_network(subnet))


def _canonical_address(address: str) -> str:
    return str(ip_interface(address))
