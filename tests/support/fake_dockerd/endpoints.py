"""A container's endpoints: created, joined, left and deleted, with what dockerd undoes when a step fails."""

from __future__ import annotations

import contextlib
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from tests.support.fake_dockerd.answers import check_reachable
from tests.support.fake_dockerd.errors import DockerError, ProtocolViolation, Rule
from tests.support.fake_dockerd.gateways import CONNECTIVITY, Pair, rank
from tests.support.fake_dockerd.ipam import Ipam, PluginIpam
from tests.support.fake_dockerd.model import Attachment, Container, Endpoint, Network, Pool, Sandbox, new_id
from tests.support.fake_dockerd.mover import Mover
from tests.support.fake_dockerd.plugin import Plugin
from tests.support.fake_dockerd.versions import Version

_FAILURES = (DockerError, ProtocolViolation)
_GATEWAY_BRIDGE = Network(
    id="docker_gwbridge",
    name="docker_gwbridge",
    driver="bridge",
    ipam="default",
    options={},
    ipam_options={},
    internal=False,
    ipv4=True,
    ipv6=False,
)


class Endpoints:
    """The endpoints of one dockerd; `driver` is the plugin's name, `ipam_of` finds a network's IPAM driver."""

    def __init__(
        self, driver: str, plugin: Plugin, version: Version, ipam_of: Callable[[Network], Ipam], mover: Mover
    ) -> None:
        self._driver, self._plugin, self._version = driver, plugin, version
        self._ipam_of, self._mover = ipam_of, mover
        self.connectivity = CONNECTIVITY[version.gateways](plugin, self._is_ours)

    # Verbs

    def attach(
        self, container: Container, network: Network, attachment: Attachment, *, starting: bool
    ) -> None:
        """Creates an endpoint in the container's sandbox and joins it; undoes everything on failure."""
        sandbox = _sandbox(container)
        options = self._create_options(container, network, attachment)
        endpoint = Endpoint(new_id(), network, attachment, mac=attachment.mac)
        with self._undone_on_failure(lambda: self._release(endpoint)):
            self._request_addresses(endpoint, container)
            self._create(endpoint, options)
        with self._undone_on_failure(lambda: self._abandon(endpoint, container)):
            self._join(endpoint, container, starting)
        if self._version.asks_joined_endpoint_first:
            self._ask_ports(sandbox, [endpoint])
        self._ask_ports(sandbox, sandbox.endpoints)

    def detach(self, container: Container, endpoint: Endpoint) -> None:
        """`docker network disconnect` of a running container."""
        sandbox = _sandbox(container)
        self._leave(endpoint, sandbox, container)
        self._ask_ports(sandbox, sandbox.endpoints)
        self._delete(endpoint)

    def detach_all(self, container: Container) -> None:
        """The end of a sandbox."""
        sandbox = _sandbox(container)
        sandbox.deleting = True
        for endpoint in list(sandbox.endpoints):
            if endpoint is not sandbox.gateway_bridge:
                self._leave(endpoint, sandbox, container)
                self._delete(endpoint)
        sandbox.endpoints, sandbox.gateway_bridge = [], None

    def populate(self, sandbox: Sandbox) -> None:
        """Configures what joined before the namespace existed."""
        for endpoint in sandbox.endpoints:
            self._mover.enter(endpoint, sandbox)
        self._mover.route(sandbox, *self.connectivity.current(sandbox))

    def ask_live(self, container: Container) -> None:
        """After a restart with live-restore."""
        sandbox = _sandbox(container)
        self._ask_ports(sandbox, sandbox.endpoints)

    # Creating

    def _create_options(
        self, container: Container, network: Network, attachment: Attachment
    ) -> dict[str, Any]:
        """Ports belong to one network of a sandbox, and never to an internal one."""
        options: dict[str, Any] = dict(attachment.driver_options)
        if attachment.mac:
            raw = bytes.fromhex(attachment.mac.replace(":", ""))
            options["com.docker.network.endpoint.macaddress"] = b64encode(raw).decode()
        if container.dns:
            options["com.docker.network.endpoint.dnsservers"] = container.dns
        if network.internal and not self._version.ports_before_internal:
            return dict(sorted(options.items()))
        mapped = self._mapped_elsewhere(container)
        if not network.internal and not mapped:
            options |= container.endpoint_options(self._version.exposes_published_only)
        return dict(sorted(options.items()))

    def _mapped_elsewhere(self, container: Container) -> bool:
        """Whether a joined endpoint of dockerd's own drivers maps ports; asks the plugin's too, which cannot tell."""
        sandbox = _sandbox(container)
        self._ask_ports(sandbox, sandbox.endpoints)
        others = [e for e in sandbox.endpoints if not self._is_ours(e) and not e.network.internal]
        return bool(container.ports) and bool(others)

    def _ask_ports(self, sandbox: Sandbox, endpoints: list[Endpoint]) -> None:
        if self._version.bridge_hides_endpoints and sandbox.gateway_bridge is not None:
            return
        for endpoint in list(endpoints):
            if self._is_ours(endpoint):
                with contextlib.suppress(DockerError):
                    self._plugin.ask("/NetworkDriver.EndpointOperInfo", _ids(endpoint))

    def _request_addresses(self, endpoint: Endpoint, container: Container) -> None:
        ipam = self._ipam_of(endpoint.network)
        options: dict[str, str] = {}
        if isinstance(ipam, PluginIpam) and ipam.requires_mac:
            endpoint.mac = endpoint.mac or _random_mac()
            options["com.docker.network.endpoint.macaddress"] = endpoint.mac
        if self._version.names_endpoints:
            options["com.docker.network.endpoint.name"] = container.name
        for v6, wanted in ((False, endpoint.attachment.ip), (True, endpoint.attachment.ip6)):
            pools = [pool for pool in endpoint.network.pools if pool.v6 is v6 and _fits(pool, wanted)]
            if not pools:
                if wanted:
                    raise DockerError(f"no configured subnet contains IP address {wanted}")
                continue
            address = ipam.request_address(pools[0], wanted, options or None)
            if address:
                self._lease(endpoint, pools[0], address)

    def _lease(self, endpoint: Endpoint, pool: Pool, address: str) -> None:
        endpoint.leases.append((pool.id, str(ip_interface(address).ip)))
        if pool.v6:
            endpoint.address6 = address
        else:
            endpoint.address = address

    def _create(self, endpoint: Endpoint, options: dict[str, Any]) -> None:
        if not self._is_ours(endpoint):
            return
        interface = {
            "Address": endpoint.address,
            "AddressIPv6": endpoint.address6,
            "MacAddress": endpoint.mac,
        }
        request = {**_ids(endpoint), "Interface": interface, "Options": options}
        try:
            answer = self._plugin.ask("/NetworkDriver.CreateEndpoint", request)
        except ProtocolViolation:
            self._tell("DeleteEndpoint", endpoint)
            raise
        answered = answer.get("Interface") or {}
        endpoint.address = endpoint.address or answered.get("Address") or ""
        endpoint.address6 = endpoint.address6 or answered.get("AddressIPv6") or ""
        endpoint.mac = endpoint.mac or answered.get("MacAddress") or ""

    # Joining

    def _join(self, endpoint: Endpoint, container: Container, starting: bool) -> None:
        sandbox = _sandbox(container)
        before = self.connectivity.current(sandbox)
        with self._undone_on_failure(lambda: self._roll_back_join(endpoint, sandbox)):
            self._ask_to_join(endpoint, container)
            sandbox.endpoints = sorted([*sandbox.endpoints, endpoint], key=lambda e: rank(e, sandbox))
            if not starting or self._version.key_exists_at_start:
                self._mover.enter(endpoint, sandbox)
            self._settle_gateways(endpoint, container, before, starting)

    def _settle_gateways(
        self, endpoint: Endpoint, container: Container, before: Pair, starting: bool
    ) -> None:
        sandbox = _sandbox(container)
        if _needs_gateway_bridge(sandbox) and sandbox.gateway_bridge is None:
            self._join_gateway_bridge(sandbox)
        if not starting or self._version.key_exists_at_start:
            self._mover.route(sandbox, *self.connectivity.current(sandbox))
        self.connectivity.joined(sandbox, endpoint, before, container.published_options())
        if not _needs_gateway_bridge(sandbox):
            self._leave_gateway_bridge(sandbox)

    def _ask_to_join(self, endpoint: Endpoint, container: Container) -> None:
        if not self._is_ours(endpoint):
            self._join_bridge(endpoint)
            return
        sandbox = _sandbox(container)
        request = {**_ids(endpoint), "SandboxKey": sandbox.key, "Options": container.published_options()}
        try:
            answer = self._plugin.ask("/NetworkDriver.Join", request)
            check_reachable("/NetworkDriver.Join", answer, (endpoint.address, endpoint.address6))
            _check_repeated_routes(answer, sandbox)
        except ProtocolViolation:
            self._tell("Leave", endpoint)
            raise
        _take_join(endpoint, answer)

    def _join_bridge(self, endpoint: Endpoint) -> None:
        """dockerd's own bridge driver offers the pools' gateways."""
        if endpoint.network.internal:
            return
        pools = endpoint.network.pools
        endpoint.gateway = next((_bare(p.gateway) for p in pools if not p.v6 and p.gateway), "")
        endpoint.gateway6 = next((_bare(p.gateway) for p in pools if p.v6 and p.gateway), "")

    def _abandon(self, endpoint: Endpoint, container: Container) -> None:
        self._delete(endpoint)
        if self._version.forgets_failed_network:
            container.attachments.pop(endpoint.network.name)

    def _roll_back_join(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        if endpoint in sandbox.endpoints:
            sandbox.endpoints.remove(endpoint)
            self._mover.leave(endpoint, sandbox)
        if self._is_ours(endpoint):
            self._tell("Leave", endpoint)

    def _join_gateway_bridge(self, sandbox: Sandbox) -> None:
        bridge = Endpoint(new_id(), _GATEWAY_BRIDGE, Attachment(), gateway="172.17.255.1")
        sandbox.gateway_bridge = bridge
        sandbox.endpoints = [*sandbox.endpoints, bridge]

    def _leave_gateway_bridge(self, sandbox: Sandbox) -> None:
        if sandbox.gateway_bridge is not None:
            sandbox.endpoints.remove(sandbox.gateway_bridge)
            sandbox.gateway_bridge = None

    # Leaving

    def _leave(self, endpoint: Endpoint, sandbox: Sandbox, container: Container) -> None:
        before = self.connectivity.current(sandbox)
        self.connectivity.leaves(endpoint, before)
        if self._is_ours(endpoint) and self._tell("Leave", endpoint):
            self.connectivity.left(endpoint)
        self._mover.leave(endpoint, sandbox)
        sandbox.endpoints.remove(endpoint)
        if sandbox.deleting and not self._version.moves_gateway_while_deleting:
            return
        if not sandbox.deleting and _needs_gateway_bridge(sandbox) and sandbox.gateway_bridge is None:
            self._join_gateway_bridge(sandbox)
        if not sandbox.deleting:
            self._mover.route(sandbox, *self.connectivity.current(sandbox))
        self.connectivity.passed_on(sandbox, endpoint, before, container.published_options())

    def _delete(self, endpoint: Endpoint) -> None:
        if self._is_ours(endpoint):
            self._tell("DeleteEndpoint", endpoint)
        self._release(endpoint)

    def _release(self, endpoint: Endpoint) -> None:
        ipam = self._ipam_of(endpoint.network)
        for pool_id, address in endpoint.leases:
            ipam.release_address(pool_id, address)
        endpoint.leases = []

    # Common

    def _is_ours(self, endpoint: Endpoint) -> bool:
        return endpoint.network.driver == self._driver

    def _tell(self, method: str, endpoint: Endpoint) -> bool:
        """A call whose failure dockerd only logs; False where it failed."""
        try:
            self._plugin.ask(f"/NetworkDriver.{method}", _ids(endpoint))
        except DockerError:
            return False
        return True

    @contextlib.contextmanager
    def _undone_on_failure(self, undo: Callable[[], None]) -> Iterator[None]:
        try:
            yield
        except _FAILURES:
            undo()
            raise


def _ids(endpoint: Endpoint) -> dict[str, Any]:
    return {"NetworkID": endpoint.network.id, "EndpointID": endpoint.id}


def _sandbox(container: Container) -> Sandbox:
    if container.sandbox is None:
        raise DockerError(f"container {container.name} is not running")
    return container.sandbox


def _fits(pool: Pool, wanted: str) -> bool:
    return not wanted or ip_address(wanted) in ip_network(pool.subnet)


def _bare(address: str) -> str:
    return str(ip_interface(address).ip)


def _random_mac() -> str:
    return bytes([0x02, *secrets.token_bytes(5)]).hex(":")


def _take_join(endpoint: Endpoint, answer: dict[str, Any]) -> None:
    name = answer.get("InterfaceName") or {}
    endpoint.link, endpoint.link_prefix = name.get("SrcName") or "", name.get("DstPrefix") or ""
    endpoint.gateway = answer.get("Gateway") or ""
    endpoint.gateway6 = (answer.get("GatewayIPv6") or "") if endpoint.address6 else ""
    endpoint.routes = answer.get("StaticRoutes") or []
    endpoint.no_gateway_service = bool(answer.get("DisableGatewayService"))
    endpoint.joined = True


def _check_repeated_routes(answer: dict[str, Any], sandbox: Sandbox) -> None:
    taken = {ip_network(r["Destination"], strict=False) for e in sandbox.endpoints for r in e.routes}
    for route in answer.get("StaticRoutes") or []:
        if ip_network(route["Destination"], strict=False) in taken:
            raise ProtocolViolation("/NetworkDriver.Join", Rule.ROUTE_REPEATED, route["Destination"])


def _needs_gateway_bridge(sandbox: Sandbox) -> bool:
    """Whether no endpoint offers a way out, and one would want it."""
    asking = [
        e
        for e in sandbox.endpoints
        if e is not sandbox.gateway_bridge and not e.network.internal and not e.no_gateway_service
    ]
    return bool(asking) and not any(e.gateway or e.gateway6 or _has_default(e) for e in asking)


def _has_default(endpoint: Endpoint) -> bool:
    return any(route["Destination"] == "0.0.0.0/0" for route in endpoint.routes)
