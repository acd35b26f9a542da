"""The remote driver: networks of another program, reached by Docker's plugin protocol.

One driver a plugin. The plugin makes a link in the host's namespace; what becomes of it there is the plugin's affair,
what becomes of it in the sandbox is data, as with any other driver.
Source: Docker's "network driver plugins" page, and github.com/moby/moby, daemon/libnetwork/drivers/remote/driver.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from cnm import names
from cnm.driver import Capabilities, HostFacts, RolledBack
from cnm.drivers import remote_records as records
from cnm.endpoint import Attachment, Endpoint, PortMapping, PortRequest, StaticRoute
from cnm.errors import CnmError, InvalidParameter
from cnm.gateway import ON_LINK
from cnm.kernel.state import Address, KernelState, Link, LinkKind, Route, Sysctl
from cnm.network import Network
from cnm.sandbox import Sandbox
from cnm.wire import plugin as wire
from cnm.wire.plugin_client import NotImplementedByPlugin, Plugins

T = TypeVar("T", bound=msgspec.Struct)

_CAPABILITIES = Capabilities(publishes_ports=True, routed_by_host=False, own_mac=False)
"""Forwarding, and MACs that nobody asked for, are the plugin's affair."""
_SCOPES = ("local", "global")
_NEXT_HOP, _ON_LINK = 0, 1


class RemoteDriver:
    """Implements `ActiveDriver`. Thread-safe: nothing of a network or an endpoint is kept here."""

    def __init__(self, name: str, plugins: Plugins) -> None:
        self.name = name
        self.capabilities = _CAPABILITIES
        self._plugins = plugins
        self._introduced = False
        self._checks_gateways = False

    # The plugin's part

    def introduce(self) -> None:
        if self._introduced:
            return
        answer = self._ask("GetCapabilities", None, wire.NetworkCapabilities)
        scope = (answer.scope or "").lower()
        connectivity = (answer.connectivity_scope or "").lower() or scope
        if scope not in _SCOPES or connectivity not in _SCOPES:
            raise InvalidParameter(
                f"plugin {self.name}: invalid capability: expecting 'local' or 'global', it says "
                f"{answer.scope or ''!r} and {answer.connectivity_scope or ''!r}"
            )
        self.capabilities = msgspec.structs.replace(_CAPABILITIES, scope=scope)
        self._checks_gateways = bool(answer.gw_alloc_checker)
        self._introduced = True

    def create_network(self, network: Network, address_space: str) -> None:
        self._tell("CreateNetwork", records.create_network(network, address_space))

    def delete_network(self, network_id: str) -> None:
        self._tell("DeleteNetwork", wire.NetworkRef(network_id=network_id))

    def create_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        request = records.create_endpoint(network, endpoint)
        answer = self._told("CreateEndpoint", request, wire.EndpointCreated)
        try:
            return _completed(endpoint, answer.interface or wire.Interface())
        except InvalidParameter as error:
            raise self._rolled_back("CreateEndpoint", error, "DeleteEndpoint", network, endpoint) from None

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> None:
        self._tell("DeleteEndpoint", wire.EndpointRef(network_id=network_id, endpoint_id=endpoint_id))

    def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> Attachment:
        request = records.join(network, endpoint, sandbox)
        answer = self._told("Join", request, wire.Joined)
        try:
            return _attachment(answer)
        except InvalidParameter as error:
            raise self._rolled_back("Join", error, "Leave", network, endpoint) from None

    def leave(self, network_id: str, endpoint_id: str) -> None:
        self._tell("Leave", wire.EndpointRef(network_id=network_id, endpoint_id=endpoint_id))

    def program(self, network: Network, endpoint: Endpoint) -> None:
        self._tell_if_known("ProgramExternalConnectivity", records.program(network, endpoint))

    def revoke(self, network_id: str, endpoint_id: str) -> None:
        ref = wire.EndpointRef(network_id=network_id, endpoint_id=endpoint_id)
        self._tell_if_known("RevokeExternalConnectivity", ref)

    def wants_gateways(self, network: Network) -> tuple[bool, bool]:
        """Asks the plugin, if it wants to be asked."""
        self.introduce()
        if not self._checks_gateways:
            return True, True
        request = wire.GatewayCheck(options=records.network_options(network))
        answer = self._ask("GwAllocCheck", request, wire.GatewayChecked)
        return not answer.skip_ipv4, not answer.skip_ipv6

    # Our part

    def validate_network(self, network: Network, others: Sequence[Network], facts: HostFacts) -> Network:
        return network

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Options are the plugin's to judge."""

    def network_state(self, network: Network, facts: HostFacts) -> tuple[KernelState, ...]:
        return ()

    def join_state(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, facts: HostFacts
    ) -> tuple[KernelState, ...]:
        attachment = endpoint.attachment
        if attachment is None or not attachment.link:
            return ()
        name = endpoint.ifname
        inside = KernelState(
            namespace=sandbox.netns,
            links=(Link(name, LinkKind.OTHER, mac=endpoint.mac, taken_from=attachment.link),),
            addresses=tuple(Address(name, cidr) for cidr in (endpoint.ipv4, endpoint.ipv6) if cidr),
            # A route on the link comes first: a next hop may be reached by it.
            routes=tuple(
                Route(route.destination, name, route.next_hop)
                for route in sorted(attachment.routes, key=lambda route: bool(route.next_hop))
            ),
            sysctls=(Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if endpoint.ipv6 else "1"),),
        )
        return (inside,)

    def port_state(
        self, network: Network, endpoint: Endpoint, ports: Sequence[PortMapping], facts: HostFacts
    ) -> tuple[KernelState, ...]:
        return ()

    def bindings(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[tuple[PortRequest, ...], tuple[PortMapping, ...]]:
        """The plugin publishes them: nothing is held on the host."""
        return (), ()

    def interface_prefix(self, network: Network) -> str:
        """Known when the plugin has answered to the join."""
        return ""

    def gateways(self, network: Network, endpoint: Endpoint) -> tuple[str, str]:
        attachment = endpoint.attachment or Attachment()
        return attachment.gateway_ipv4, attachment.gateway_ipv6

    # Calls

    def _tell(self, method: str, request: msgspec.Struct) -> None:
        self._told(method, request, wire.Failure)

    def _tell_if_known(self, method: str, request: msgspec.Struct) -> None:
        try:
            self._tell(method, request)
        except NotImplementedByPlugin:
            return  # plugins from before there were ports

    def _told(self, method: str, request: msgspec.Struct, answer: type[T]) -> T:
        self.introduce()
        return self._ask(method, request, answer)

    def _ask(self, method: str, request: msgspec.Struct | None, answer: type[T]) -> T:
        return self._plugins.call(self.name, f"{wire.NETWORK_DRIVER}.{method}", request, answer)

    def _rolled_back(
        self, method: str, error: CnmError, undoing: str, network: Network, endpoint: Endpoint
    ) -> RolledBack:
        try:
            self._tell(undoing, wire.EndpointRef(network_id=network.id, endpoint_id=endpoint.id))
            outcome = "rolled back"
        except CnmError as failure:
            outcome = f"failed to roll back: {failure}"
        return RolledBack(f"plugin {self.name}: {wire.NETWORK_DRIVER}.{method}: {error}; {outcome}")


def _completed(endpoint: Endpoint, answer: wire.Interface) -> Endpoint:
    """With what the plugin chose. Raises InvalidParameter, in Docker's words, also where that was settled before."""
    mac, ipv4, ipv6 = answer.mac_address or "", answer.address or "", answer.address_ipv6 or ""
    mac = names.parse_mac(mac) if mac else ""
    ipv4, ipv6 = (_cidr(text, version) if text else "" for text, version in ((ipv4, 4), (ipv6, 6)))
    if mac and endpoint.mac:
        raise InvalidParameter(
            "driver modified interface MAC address: endpoint interface MAC address present "
            f"({endpoint.mac}). Cannot be modified with {mac}."
        )
    for have, new in ((endpoint.ipv4, ipv4), (endpoint.ipv6, ipv6)):
        if have and new:
            raise InvalidParameter(
                f"driver modified interface address: endpoint interface IP present ({have}). "
                f"Cannot be modified with ({new})."
            )
    return msgspec.structs.replace(
        endpoint, mac=mac or endpoint.mac, ipv4=ipv4 or endpoint.ipv4, ipv6=ipv6 or endpoint.ipv6
    )


def _attachment(answer: wire.Joined) -> Attachment:
    """Raises InvalidParameter naming what is malformed."""
    interface = answer.interface_name or wire.InterfaceName()
    link = interface.src_name or ""
    if link:
        names.check_interface(link)
    routes = tuple(_route(route) for route in answer.static_routes or ())
    return Attachment(
        link=link,
        prefix=_prefix(interface.dst_prefix or "eth") if link else "",
        gateway_ipv4=_gateway(answer.gateway or "", 4) or _default_hop(routes, "0.0.0.0/0"),
        gateway_ipv6=_gateway(answer.gateway_ipv6 or "", 6) or _default_hop(routes, "::/0"),
        routes=tuple(route for route in routes if route.destination not in ("0.0.0.0/0", "::/0")),
    )


def _default_hop(routes: Sequence[StaticRoute], destination: str) -> str:
    """A default route is an offer to be the way out, as a gateway is."""
    return next((route.next_hop or ON_LINK for route in routes if route.destination == destination), "")


def _prefix(text: str) -> str:
    """A name that leaves room for a number."""
    names.check_interface(f"{text}00")
    return text


def _gateway(text: str, version: int) -> str:
    if not text:
        return ""
    return _address(text, version, "failed to set gateway")


def _route(route: wire.StaticRoute) -> StaticRoute:
    destination = _cidr(route.destination or "", 0, "failed to parse static route destination")
    destination = str(ipaddress.ip_interface(destination).network)
    if route.route_type == _ON_LINK:
        return StaticRoute(destination)
    if route.route_type != _NEXT_HOP:
        raise InvalidParameter(f"static route to {destination} has an invalid type {route.route_type}")
    version = 6 if ":" in destination else 4
    return StaticRoute(destination, _address(route.next_hop or "", version, "failed to parse next hop"))


def _address(text: str, version: int, failed: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidParameter(f"{failed}: {text!r} is no IP address") from None
    if address.version != version:
        raise InvalidParameter(f"{failed}: {text} is no IPv{version} address")
    return str(address)


def _cidr(text: str, version: int, failed: str = "invalid CIDR address") -> str:
    """`version` 0 for either."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise InvalidParameter(f"{failed}: {text!r}") from None
    if "/" not in text or version not in (0, interface.version):
        raise InvalidParameter(f"{failed}: {text!r}")
    return str(interface)
