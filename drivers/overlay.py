"""The overlay driver: one network over many hosts, a VXLAN segment in a network namespace of its own on each of them.

In that namespace a bridge joins the segment with the endpoints' pairs. All subnets are on the one segment, with routes
on the link to each other. ARP and neighbour discovery are answered there, by what the cluster knows: nothing is learnt
from packets and nothing flooded. The way out of a sandbox is an endpoint of another network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from cnm.driver import Capabilities, HostFacts, Underlay
from cnm.drivers.option_values import IFNAME, least_mtu
from cnm.drivers.overlay_options import OverlayOptions, parse
from cnm.drivers.subnets import check_usable
from cnm.endpoint import Endpoint, PortMapping, PortRequest
from cnm.errors import Forbidden, InvalidParameter
from cnm.kernel.state import Address, FdbEntry, Group, KernelState, Link, LinkKind, Peer, Route, Sysctl, Vxlan
from cnm.mac import derived_mac
from cnm.network import Network
from cnm.sandbox import Sandbox

VNI = "vni"
SEGMENT = "segment"
"""Keys of `Network.decided`: the VNI, and the id of the cluster's network that one of dockerd's stands for."""
ENCRYPTED, MULTICAST = "encrypted", "multicast"
"""The same, of one of dockerd's only: what was said of the cluster's network."""
ENCAPSULATION = {4: 50, 6: 70}
"""Bytes around a packet by the underlay's version of IP: its header, UDP, VXLAN, and the inner Ethernet header."""
BRIDGE = "br0"
_PORT_ID_DIGITS = 12
_SHORT = 12


def segment_id(network: Network) -> str:
    """The id of the cluster's network: dockerd calls its own by another one on each host."""
    return network.decided.get(SEGMENT, network.id)


def options_of(network: Network) -> OverlayOptions:
    """What holds for the segment: of one of dockerd's networks, that of the one that it stands for."""
    options, decided = parse(network.options), network.decided
    if SEGMENT not in decided:
        return options
    return replace(options, encrypted=ENCRYPTED in decided, multicast=MULTICAST in decided)


def namespace(network: Network, facts: HostFacts) -> str:
    """Path of the network's own namespace."""
    return f"{facts.netns}/{segment_id(network)[:_SHORT]}"


def tunnel_name(network: Network) -> str:
    return f"vx{network.decided[VNI]}"


def port_name(endpoint: Endpoint) -> str:
    """The end of an endpoint's pair that is a port of the bridge."""
    return f"cv{endpoint.id[:_PORT_ID_DIGITS]}"


class OverlayDriver:
    name = "overlay"
    capabilities = Capabilities(scope="global", routed_by_host=False, clustered=True)

    # Validation

    def wants_gateways(self, network: Network) -> tuple[bool, bool]:
        """dockerd asks for one of each subnet, and nobody uses it."""
        shown = parse(network.options).docker
        return shown, shown

    def validate_network(self, network: Network, others: Sequence[Network], facts: HostFacts) -> Network:
        options = parse(network.options)
        underlay = _underlay(facts)
        if options.stands_for:
            return network  # it was validated as the cluster's network, which decided everything
        if not network.enable_ipv4 and not network.enable_ipv6:
            raise InvalidParameter(f"network {network.name} needs IPv4 or IPv6")
        if network.ipam_driver == "null":
            raise InvalidParameter(
                f"network {network.name}: driver overlay needs an IPAM driver that gives addresses"
            )
        if options.docker and network.ipam_driver != "default":
            raise InvalidParameter(
                f"network {network.name}: Docker can only have networks with addresses of IPAM driver default"
            )
        for pool in network.pools:
            check_usable(pool.subnet)
        return msgspec.structs.replace(network, mtu=_mtu(network, options, underlay))

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        for option in endpoint.options:
            if option != IFNAME:
                raise InvalidParameter(f"unknown endpoint option {option} for driver overlay")

    # What must exist

    def network_state(self, network: Network, facts: HostFacts) -> tuple[KernelState, ...]:
        options, underlay = options_of(network), _underlay(facts)
        bridge = Link(
            name=BRIDGE,
            kind=LinkKind.BRIDGE,
            mac=derived_mac("02:42", segment_id(network)),
            mtu=network.mtu,
            alias=f"cnm:network:{segment_id(network)}",
            group=Group.BRIDGE,
        )
        tunnel = Link(
            name=tunnel_name(network),
            kind=LinkKind.VXLAN,
            mac=derived_mac("06:42", f"{segment_id(network)} {underlay.address}"),
            mtu=network.mtu,
            master=BRIDGE,
            alias=f"cnm:tunnel:{segment_id(network)}",
            group=Group.SEGMENT,
            vxlan=Vxlan(
                int(network.decided[VNI]),
                underlay.transport if options.encrypted else underlay.address,
                underlay.port,
            ),
        )
        return (KernelState(namespace=namespace(network, facts), links=(bridge, tunnel), own=True),)

    def join_state(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, facts: HostFacts
    ) -> tuple[KernelState, ...]:
        port = port_name(endpoint)
        link = Link(
            name=port,
            kind=LinkKind.VETH,
            mac=derived_mac("06:42", endpoint.id),
            mtu=network.mtu,
            master=BRIDGE,
            alias=f"cnm:endpoint:{endpoint.id}",
            group=Group.PORT,
            peer=Peer(sandbox.netns, endpoint.ifname, endpoint.mac, network.mtu),
        )
        cidrs = tuple(filter(None, (endpoint.ipv4, endpoint.ipv6)))
        return (
            KernelState(
                namespace=namespace(network, facts),
                links=(link,),
                fdb=(FdbEntry(port, endpoint.mac),),
                own=True,
            ),
            KernelState(
                namespace=sandbox.netns,
                links=(Link(name=endpoint.ifname, kind=LinkKind.VETH, mac=endpoint.mac, mtu=network.mtu),),
                addresses=tuple(Address(endpoint.ifname, cidr) for cidr in cidrs),
                routes=tuple(_to_siblings(network, endpoint)),
                sysctls=(
                    Sysctl(f"net/ipv6/conf/{endpoint.ifname}/disable_ipv6", "0" if endpoint.ipv6 else "1"),
                ),
            ),
        )

    def port_state(
        self, network: Network, endpoint: Endpoint, ports: Sequence[PortMapping], facts: HostFacts
    ) -> tuple[KernelState, ...]:
        return ()

    def bindings(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[tuple[PortRequest, ...], tuple[PortMapping, ...]]:
        return (), ()

    # Names and next hops

    def interface_prefix(self, network: Network) -> str:
        return parse(network.options).interface_prefix

    def gateways(self, network: Network, endpoint: Endpoint) -> tuple[str, str]:
        return "", ""


def _underlay(facts: HostFacts) -> Underlay:
    if facts.underlay is None:
        raise Forbidden(
            'This node is in no cluster. Use "cnmctl cluster init" or "cnmctl cluster join" to connect it to one, '
            "and try again."
        )
    return facts.underlay


def _mtu(network: Network, options: OverlayOptions, underlay: Underlay) -> int:
    """What the underlay leaves for the network's own packets; an option may ask for less."""
    if options.encrypted and not underlay.transport:
        raise InvalidParameter(
            f"network {network.name} cannot be encrypted: this host has neither WireGuard nor wireguard-go: load "
            "module wireguard, or install wireguard-go"
        )
    address = underlay.transport if options.encrypted else underlay.address
    room = underlay.transport_mtu if options.encrypted else underlay.mtu
    most = room - ENCAPSULATION[ipaddress.ip_address(address).version]
    if options.encrypted and room < least_mtu(True):
        raise InvalidParameter(
            f"network {network.name} cannot be encrypted: the hosts' own MTU leaves {room} bytes in tunnels, and IPv6 "
            f"there needs {least_mtu(True)}"
        )
    mtu = options.mtu or most
    if mtu > most:
        raise InvalidParameter(
            f"MTU {mtu} is too big for network {network.name}: the hosts' own {room} bytes leave {most}"
        )
    if mtu < least_mtu(network.enable_ipv6):
        raise InvalidParameter(
            f"MTU {mtu} is too small for network {network.name}: IPv6 needs {least_mtu(True)} bytes"
            if network.enable_ipv6
            else f"MTU {mtu} is too small for network {network.name}"
        )
    return mtu


def _to_siblings(network: Network, endpoint: Endpoint) -> Iterator[Route]:
    """Routes to the network's other subnets: they are on the same link."""
    for own, pools in ((endpoint.ipv4, network.pools_v4()), (endpoint.ipv6, network.pools_v6())):
        mine = ipaddress.ip_interface(own).network if own else None
        for pool in pools if own else ():
            if ipaddress.ip_network(pool.subnet) != mine:
                yield Route(pool.subnet, endpoint.ifname)
