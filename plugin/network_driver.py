"""NetworkDriver.*: dockerd's networks and endpoints as verbs of the model, one method each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cnm import handover
from cnm.dockerd_verbs import DockerdVerbs
from cnm.endpoint import Endpoint
from cnm.errors import InvalidParameter, NotBuilt
from cnm.gateway import ON_LINK, next_hop
from cnm.network import Network
from cnm.plugin import requests
from cnm.plugin.app import Call
from cnm.wire import plugin
from cnm.wire.requests import IFNAME_OPTION

_EVERYWHERE = ("0.0.0.0/0", "::/0")
_CONNECTED = 1
"""A route type of the protocol: on the link."""

DirectJoin = Callable[[Network], bool]
"""Whether links of the network may be made inside dockerd's sandboxes; answers at once."""


class News(NamedTuple):
    """What others are told about; all return at once."""

    network_made: Callable[[Network], None]
    joined: Callable[[], None]
    """A container whose name is not known may have come."""
    asks: Callable[[str, tuple[str, ...] | None], None] = lambda endpoint_id, servers: None
    """Whom an endpoint's container asks for names, `()` for the host's servers, None where that is not known."""


class NetworkDriver:
    """`driver` is what the networks are made with: bridge, macvlan, ipvlan. Everything may be asked twice."""

    def __init__(self, driver: str, dockerd: DockerdVerbs, direct: DirectJoin, news: News) -> None:
        self._driver = driver
        self._dockerd = dockerd
        self._direct = direct
        self._news = news

    def calls(self) -> dict[str, Call]:
        methods = {
            "GetCapabilities": Call(plugin.Record, self.get_capabilities),
            "GwAllocCheck": Call(plugin.GatewayCheck, self.check_gateways),
            "AllocateNetwork": Call(plugin.AllocateNetwork, self.allocate_network),
            "FreeNetwork": Call(plugin.NetworkRef, self.free_network),
            "CreateNetwork": Call(plugin.CreateNetwork, self.create_network),
            "DeleteNetwork": Call(plugin.NetworkRef, self.delete_network),
            "CreateEndpoint": Call(plugin.CreateEndpoint, self.create_endpoint),
            "DeleteEndpoint": Call(plugin.EndpointRef, self.delete_endpoint),
            "EndpointOperInfo": Call(plugin.EndpointRef, self.endpoint_oper_info),
            "Join": Call(plugin.Join, self.join),
            "Leave": Call(plugin.EndpointRef, self.leave),
            "ProgramExternalConnectivity": Call(plugin.ProgramExternalConnectivity, self.program),
            "RevokeExternalConnectivity": Call(plugin.EndpointRef, self.revoke),
            "DiscoverNew": Call(plugin.Discovery, self.discover),
            "DiscoverDelete": Call(plugin.Discovery, self.discover),
        }
        return {f"{plugin.NETWORK_DRIVER}.{name}": call for name, call in methods.items()}

    def get_capabilities(self, _body: plugin.Record) -> plugin.NetworkCapabilities:
        return plugin.NetworkCapabilities(scope="local", connectivity_scope="local", gw_alloc_checker=True)

    def check_gateways(self, body: plugin.GatewayCheck) -> plugin.GatewayChecked:
        options = body.options or {}
        user = requests.user_options(options)
        user.pop(requests.JOIN_OPTION, None)
        ipv4, ipv6 = self._dockerd.wants_gateways(self._driver, user, requests.is_internal(options))
        return plugin.GatewayChecked(skip_ipv4=not ipv4, skip_ipv6=not ipv6)

    def allocate_network(self, _body: plugin.AllocateNetwork) -> None:
        raise NotBuilt("networks of swarm scope are not built: use docker network create --scope local")

    def free_network(self, _body: plugin.NetworkRef) -> None:
        """Nothing was allocated."""

    def create_network(self, body: plugin.CreateNetwork) -> None:
        made = self._dockerd.create_network(requests.network_request(body, self._driver))
        self._news.network_made(made)

    def delete_network(self, body: plugin.NetworkRef) -> None:
        self._dockerd.delete_network(requests.checked_id("network", body.network_id))

    def create_endpoint(self, body: plugin.CreateEndpoint) -> plugin.EndpointCreated:
        """Answers only the MAC, and only where dockerd gave none: repeating a value counts as changing it."""
        network_id = requests.checked_id("network", body.network_id)
        request = requests.endpoint_request(body)
        direct = self._direct(self._dockerd.network(network_id))
        if request.ifname and not direct:
            raise InvalidParameter(
                f"option {IFNAME_OPTION} has no effect here, since dockerd names the interfaces that it moves: "
                f"leave it out, or create the network with -o {requests.JOIN_OPTION}=direct"
            )
        if direct and plugin.SYSCTLS in (body.options or {}):
            raise InvalidParameter(
                f"option {plugin.SYSCTLS} has no effect on links that dockerd does not move: "
                f"leave it out, or create the network with -o {requests.JOIN_OPTION}=moved"
            )
        endpoint = self._dockerd.create_endpoint(network_id, request)
        self._news.asks(endpoint.id, requests.name_servers(body))
        mac = "" if endpoint.mac_given else endpoint.mac
        return plugin.EndpointCreated(interface=plugin.Interface(mac_address=mac))

    def delete_endpoint(self, body: plugin.EndpointRef) -> None:
        self._dockerd.delete_endpoint(requests.checked_id("endpoint", body.endpoint_id))

    def endpoint_oper_info(self, _body: plugin.EndpointRef) -> plugin.OperInfo:
        """Nothing: what a plugin says of ports here, dockerd cannot read."""
        return plugin.OperInfo(value={})

    def join(self, body: plugin.Join) -> plugin.Joined:
        network_id = requests.checked_id("network", body.network_id)
        endpoint = self._dockerd.join(
            network_id,
            requests.checked_id("endpoint", body.endpoint_id),
            requests.sandbox_key(body.sandbox_key),
            requests.ports(body.options),
            self._direct(self._dockerd.network(network_id)),
        )
        self._news.joined()
        return self._joined(endpoint)

    def _joined(self, endpoint: Endpoint) -> plugin.Joined:
        """Without a gateway dockerd would make a way out of its own, past every rule of the network; it is to, where
        the network has none."""
        offers = self._dockerd.gateways(endpoint)
        ipv4, ipv6 = map(next_hop, offers)
        on_link = [where for where, offer in zip(_EVERYWHERE, offers, strict=True) if offer == ON_LINK]
        if endpoint.moved:
            on_link += self._dockerd.routes(endpoint)
        return plugin.Joined(
            interface_name=plugin.InterfaceName(
                src_name=handover.source_name(endpoint) if endpoint.moved else "",
                dst_prefix=self._dockerd.interface_prefix(endpoint),
            ),
            gateway=ipv4,
            gateway_ipv6=ipv6,
            static_routes=[plugin.StaticRoute(destination=where, route_type=_CONNECTED) for where in on_link],
            disable_gateway_service=not (ipv4 or ipv6 or self._dockerd.leads_out(endpoint)),
        )

    def leave(self, body: plugin.EndpointRef) -> None:
        self._dockerd.leave(requests.checked_id("endpoint", body.endpoint_id))

    def program(self, body: plugin.ProgramExternalConnectivity) -> None:
        self._dockerd.publish(
            requests.checked_id("network", body.network_id),
            requests.checked_id("endpoint", body.endpoint_id),
            requests.ports(body.options),
        )

    def revoke(self, body: plugin.EndpointRef) -> None:
        self._dockerd.unpublish(requests.checked_id("endpoint", body.endpoint_id))

    def discover(self, _body: plugin.Discovery) -> None:
        """Nodes of a swarm are nothing to a network of one host."""
