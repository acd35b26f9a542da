"""The bridge driver: a Linux bridge for each network, a veth pair for each endpoint, firewall elements for both."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from cnm.driver import Capabilities, HostFacts
from cnm.drivers.bridge_options import BridgeOptions, parse
from cnm.drivers.option_values import IFNAME, least_mtu
from cnm.drivers.subnets import check_usable
from cnm.endpoint import Endpoint, PortMapping, PortRequest
from cnm.errors import Forbidden, InvalidParameter
from cnm.firewall import elements
from cnm.firewall.modes import GatewayMode
from cnm.kernel.state import Address, Group, KernelState, Link, LinkKind, Neighbor, Peer, Route, Sysctl
from cnm.mac import derived_mac
from cnm.network import Network, Pool
from cnm.sandbox import Sandbox

_BRIDGE_ID_DIGITS = 11
_PORT_ID_DIGITS = 12
_TABLE_LOCAL = 255
_NAT = (GatewayMode.NAT, GatewayMode.NAT_UNPROTECTED)
_FORWARDING = (*_NAT, GatewayMode.ROUTED)
_AUXILIARY_GATEWAYS = ("DefaultGatewayIPv4", "DefaultGatewayIPv6")


def bridge_name(network: Network) -> str:
    return network.options.get("com.docker.network.bridge.name") or f"cnm-{network.id[:_BRIDGE_ID_DIGITS]}"


def port_name(endpoint: Endpoint) -> str:
    """The host end of an endpoint's veth pair."""
    return f"cv{endpoint.id[:_PORT_ID_DIGITS]}"


class BridgeDriver:
    name = "bridge"
    capabilities = Capabilities(publishes_ports=True)

    # Validation

    def wants_gateways(self, network: Network) -> tuple[bool, bool]:
        options = parse(network.options)
        isolated4, isolated6 = (mode is GatewayMode.ISOLATED for mode in _modes(network, options))
        return not isolated4 and not (options.inhibit_ipv4 and network.internal), not isolated6

    def validate_network(self, network: Network, others: Sequence[Network], facts: HostFacts) -> Network:
        options = parse(network.options)
        if not network.enable_ipv4 and not network.enable_ipv6:
            raise InvalidParameter(f"network {network.name} needs IPv4 or IPv6")
        if network.ipam_driver == "null":
            raise InvalidParameter(
                f"network {network.name}: driver bridge needs an IPAM driver that gives addresses"
            )
        if (
            GatewayMode.ISOLATED in (options.gateway_mode_ipv4, options.gateway_mode_ipv6)
            and not network.internal
        ):
            raise InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
        for pools in (network.pools_v4(), network.pools_v6()):
            if len(pools) > 1:
                raise InvalidParameter("bridge driver doesn't support multiple subnets")
        for pool in network.pools:
            check_usable(pool.subnet)
        for other in others:
            _check_apart(network, other)
        mtu = options.mtu or facts.uplink_mtu
        if mtu < least_mtu(network.enable_ipv6):
            raise InvalidParameter(
                f"MTU {mtu} is too small for network {network.name}: IPv6 needs 1280 bytes"
            )
        return msgspec.structs.replace(network, mtu=mtu)

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        for option in endpoint.options:
            if option != IFNAME:
                raise InvalidParameter(f"unknown endpoint option {option} for driver bridge")

    # What must exist

    def network_state(self, network: Network, facts: HostFacts) -> tuple[KernelState, ...]:
        options = parse(network.options)
        name = bridge_name(network)
        link = Link(
            name=name,
            kind=LinkKind.BRIDGE,
            mac=derived_mac("02:42", network.id),
            mtu=network.mtu,
            alias=f"cnm:network:{network.id}",
            group=Group.BRIDGE,
        )
        mode4, mode6 = _modes(network, options)
        return (
            KernelState(
                links=(link,),
                addresses=tuple(Address(name, cidr) for cidr in _host_addresses(network, options)),
                routes=_loopback_route(network, name) if mode6 in _NAT and not facts.bridge_nf_ipv6 else (),
                sysctls=tuple(_bridge_sysctls(name, mode4, mode6, facts)),
                elements=elements.network_elements(
                    name,
                    mode_ipv4=mode4,
                    mode_ipv6=mode6,
                    icc=options.icc,
                    masquerade=options.masquerade,
                    host_ipv4=options.host_ipv4,
                    host_ipv6=options.host_ipv6,
                    trusted=options.trusted_interfaces,
                ),
            ),
        )

    def join_state(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, facts: HostFacts
    ) -> tuple[KernelState, ...]:
        options = parse(network.options)
        bridge, port = bridge_name(network), port_name(endpoint)
        filtered = facts.bridge_nf_ipv4 or facts.bridge_nf_ipv6
        link = Link(
            name=port,
            kind=LinkKind.VETH,
            mac=derived_mac("06:42", endpoint.id),
            mtu=network.mtu,
            master=bridge,
            alias=f"cnm:endpoint:{endpoint.id}",
            group=Group.PORT,
            peer=Peer(sandbox.netns, endpoint.ifname, endpoint.mac, network.mtu),
            isolated=not options.icc and not filtered,
            hairpin=filtered,
        )
        cidrs = tuple(filter(None, (endpoint.ipv4, endpoint.ipv6)))
        mode4, mode6 = _modes(network, options)
        host = KernelState(
            links=(link,),
            neighbors=tuple(
                Neighbor(bridge, _bare(cidr), endpoint.mac)
                for cidr, mode in ((endpoint.ipv4, mode4), (endpoint.ipv6, mode6))
                # Isolated: the host has no part in the family there, IPv6 is switched off.
                if cidr and mode is not GatewayMode.ISOLATED
            ),
            elements=elements.attach_elements(
                port,
                mac=endpoint.mac,
                ipv4=_bare(endpoint.ipv4),
                ipv6=_bare(endpoint.ipv6),
                guard=options.guard,
                mode_ipv4=mode4,
                mode_ipv6=mode6,
            ),
        )
        inside = KernelState(
            namespace=sandbox.netns,
            links=(Link(name=endpoint.ifname, kind=LinkKind.VETH, mac=endpoint.mac, mtu=network.mtu),),
            addresses=tuple(Address(endpoint.ifname, cidr) for cidr in cidrs),
            sysctls=(Sysctl(f"net/ipv6/conf/{endpoint.ifname}/disable_ipv6", "0" if endpoint.ipv6 else "1"),),
        )
        return host, inside

    def port_state(
        self, network: Network, endpoint: Endpoint, ports: Sequence[PortMapping], facts: HostFacts
    ) -> tuple[KernelState, ...]:
        mode4, mode6 = _modes(network, parse(network.options))
        published = elements.publish_elements(
            ports, ipv4=_bare(endpoint.ipv4), ipv6=_bare(endpoint.ipv6), mode_ipv4=mode4, mode_ipv6=mode6
        )
        return (KernelState(elements=published),)

    def bindings(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[tuple[PortRequest, ...], tuple[PortMapping, ...]]:
        options = parse(network.options)
        modes = _modes(network, options)
        if not any(mode in _NAT for mode in modes):
            return (), tuple(_unbound(request) for request in requests)
        default = options.host_binding_ipv4
        filled = (msgspec.structs.replace(r, host_address=r.host_address or default) for r in requests)
        return tuple(filled), ()

    # Names and next hops

    def interface_prefix(self, network: Network) -> str:
        return parse(network.options).interface_prefix

    def gateways(self, network: Network, endpoint: Endpoint) -> tuple[str, str]:
        if network.internal:
            return "", ""
        options = parse(network.options)
        ipv4 = _next_hop(network.pools_v4(), _AUXILIARY_GATEWAYS[0]) if endpoint.ipv4 else ""
        ipv6 = _next_hop(network.pools_v6(), _AUXILIARY_GATEWAYS[1]) if endpoint.ipv6 else ""
        return "" if options.inhibit_ipv4 and not _auxiliary(network.pools_v4()) else ipv4, ipv6


def _modes(network: Network, options: BridgeOptions) -> tuple[GatewayMode | None, GatewayMode | None]:
    """The gateway mode of each family, None where the network has no such family."""

    def mode(enabled: bool, asked: GatewayMode) -> GatewayMode | None:
        if not enabled:
            return None
        if network.internal and asked is not GatewayMode.ISOLATED:
            return GatewayMode.INTERNAL
        return asked

    return mode(network.enable_ipv4, options.gateway_mode_ipv4), mode(
        network.enable_ipv6, options.gateway_mode_ipv6
    )


def _host_addresses(network: Network, options: BridgeOptions) -> Iterable[str]:
    """The bridge's own addresses: the gateways, unless the host is to have none."""
    mode4, mode6 = _modes(network, options)
    if mode4 is not GatewayMode.ISOLATED and not options.inhibit_ipv4:
        yield from (_with_prefix(pool) for pool in network.pools_v4() if pool.gateway)
    if mode6 is not GatewayMode.ISOLATED:
        yield from (_with_prefix(pool) for pool in network.pools_v6() if pool.gateway)


def _with_prefix(pool: Pool) -> str:
    return f"{pool.gateway}/{pool.subnet.partition('/')[2]}"


def _bridge_sysctls(
    name: str, mode4: GatewayMode | None, mode6: GatewayMode | None, facts: HostFacts
) -> Iterable[Sysctl]:
    """Forwarding only where the mode forwards; route_localnet lets 127.0.0.1 reach published ports."""
    ipv6_on_bridge = mode6 is not None and mode6 is not GatewayMode.ISOLATED
    yield Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if ipv6_on_bridge else "1")
    yield Sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    yield Sysctl(f"net/ipv4/conf/{name}/forwarding", "1" if mode4 in _FORWARDING else "0")
    if facts.force_forwarding:
        yield Sysctl(f"net/ipv6/conf/{name}/force_forwarding", "1" if mode6 in _FORWARDING else "0")
    if mode4 in _NAT:
        yield Sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")


def _loopback_route(network: Network, name: str) -> tuple[Route, ...]:
    """Without it a reply to the host's own ::1 is lost on the bridge; the metric keeps networks apart."""
    metric = int(network.id[:7], 16) + 2
    return (Route("::1/128", name, table=_TABLE_LOCAL, metric=metric, local=True),)


def _next_hop(pools: Sequence[Pool], auxiliary: str) -> str:
    """Docker: an auxiliary address of this name stands in for the network's gateway."""
    for pool in pools:
        return pool.aux_addresses.get(auxiliary) or pool.gateway
    return ""


def _auxiliary(pools: Sequence[Pool]) -> bool:
    return any(_AUXILIARY_GATEWAYS[0] in pool.aux_addresses for pool in pools)


def _unbound(request: PortRequest) -> PortMapping:
    end = request.container_port_end or request.container_port
    return PortMapping(
        protocol=request.protocol,
        container_port=request.container_port,
        count=end - request.container_port + 1,
    )


def _check_apart(network: Network, other: Network) -> None:
    if bridge_name(network) == bridge_name(other):
        raise Forbidden(
            f"network {other.name} uses the bridge {bridge_name(other)} already: choose another name"
        )
    for pool in network.pools:
        for taken in other.pools:
            mine, theirs = ipaddress.ip_network(pool.subnet), ipaddress.ip_network(taken.subnet)
            if mine.version == theirs.version and mine.overlaps(theirs):
                raise Forbidden(f"subnet {pool.subnet} overlaps with {taken.subnet} of network {other.name}")


def _bare(cidr: str) -> str:
    return cidr.partition("/")[0]
