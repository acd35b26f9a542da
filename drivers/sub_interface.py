"""What macvlan and ipvlan have in common: sub-interfaces in sandboxes, on a parent of the host that networks may share.

The parent is an interface of the host, a VLAN of one (`eth0.10`, made where it is missing), or, where none is given, a
dummy that leads nowhere. The host takes no part: it neither routes nor filters what passes, and publishes no ports.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cnm.driver import Capabilities, HostFacts
from cnm.drivers import option_values
from cnm.drivers.option_values import IFNAME, INTERFACE_PREFIX, MTU, least_mtu
from cnm.drivers.subnets import check_usable
from cnm.endpoint import Endpoint, PortMapping, PortRequest
from cnm.errors import Forbidden, InvalidParameter
from cnm.gateway import ON_LINK
from cnm.kernel.state import Address, Group, KernelState, Link, LinkKind, Sysctl
from cnm.mac import derived_mac
from cnm.network import Network, Pool
from cnm.sandbox import Sandbox

_DUMMY_ID_DIGITS = 12
_DUMMY_MTU = 1500
_FIRST_VLAN, _LAST_VLAN = 1, 4094
_MADE = "vlan"
"""Key of what a network remembers (`Network.decided`): that its parent is a VLAN of ours."""


@dataclass(frozen=True, slots=True)
class SubInterfaceOptions:
    """What can be said of such a network; the defaults are Docker's."""

    parent: str = ""
    """An interface of the host, or a VLAN of one; "" for a dummy of the network's own."""
    mode: str = ""
    flag: str = "bridge"
    """ipvlan only."""
    mtu: int = 0
    """Bytes; 0 for the parent's."""
    interface_prefix: str = "eth"


def parent(text: str) -> str:
    """Reads the option `parent`."""
    if text == "lo":
        raise ValueError("the loopback interface is no parent: choose another, or leave the option out")
    return option_values.interface(text) if text else ""


PARSERS: option_values.Parsers = {
    "parent": ("parent", parent),
    MTU: ("mtu", option_values.mtu),
    INTERFACE_PREFIX: ("interface_prefix", option_values.prefix),
}


def parent_name(network: Network) -> str:
    """The interface that the network's endpoints stand on; Docker's name for a dummy."""
    return network.options.get("parent") or f"dm-{network.id[:_DUMMY_ID_DIGITS]}"


class SubInterfaceDriver(ABC):
    """Base of `macvlan` and `ipvlan`."""

    name: str
    kind: LinkKind
    capabilities = Capabilities(routed_by_host=False, on_parent=True)

    @abstractmethod
    def parse(self, options: Mapping[str, str]) -> SubInterfaceOptions:
        """Raises InvalidParameter naming a bad or an unknown option."""

    @abstractmethod
    def mode(self, options: SubInterfaceOptions) -> str:
        """`Link.mode` of the endpoints' interfaces."""

    @abstractmethod
    def check_sharing(self, network: Network, other: Network) -> None:
        """Whether a network can stand on a parent beside `other`, of the same driver; raises Forbidden."""

    @abstractmethod
    def gateway(self, options: SubInterfaceOptions, pool: Pool) -> str:
        """The next hop that a user gave for a subnet, "" where the default route is bound to the interface."""

    # Validation

    def wants_gateways(self, network: Network) -> tuple[bool, bool]:
        """Only those that the user gave: the router of the parent's segment is not ours to choose."""
        self.parse(network.options)
        return False, False

    def validate_network(self, network: Network, others: Sequence[Network], facts: HostFacts) -> Network:
        options = self.parse(network.options)
        if not network.enable_ipv4 and not network.enable_ipv6:
            raise InvalidParameter(f"network {network.name} needs IPv4 or IPv6")
        if network.ipam_driver != "null":
            for pool in network.pools:
                check_usable(pool.subnet)
        parent_mtu, decided = _find_parent(options.parent, facts)
        for other in others:
            self._check_apart(network, other)
        mtu = options.mtu or parent_mtu
        if options.parent and mtu > parent_mtu:
            raise InvalidParameter(
                f"MTU {mtu} of network {network.name} is larger than {options.parent}'s, which is {parent_mtu}"
            )
        if mtu < least_mtu(network.enable_ipv6):
            raise InvalidParameter(
                f"MTU {mtu} is too small for network {network.name}: IPv6 needs 1280 bytes"
            )
        internal = network.internal or not options.parent
        return msgspec.structs.replace(network, mtu=mtu, internal=internal, decided=decided)

    def _check_apart(self, network: Network, other: Network) -> None:
        if parent_name(network) != parent_name(other):
            return
        if other.driver != self.name:
            raise Forbidden(
                f"network {other.name} uses parent interface {parent_name(other)} already with driver {other.driver}, "
                f"and a parent serves one of the two: choose another parent, or a VLAN of it ({parent_name(other)}.10)"
            )
        self.check_sharing(network, other)

    def validate_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        for option in endpoint.options:
            if option != IFNAME:
                raise InvalidParameter(f"unknown endpoint option {option} for driver {self.name}")

    # What must exist

    def network_state(self, network: Network, facts: HostFacts) -> tuple[KernelState, ...]:
        if not network.options.get("parent"):
            return (KernelState(links=(_dummy(network),)),)
        if network.decided.get(_MADE):
            return (KernelState(links=(_vlan(parent_name(network)),)),)
        return ()

    def join_state(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, facts: HostFacts
    ) -> tuple[KernelState, ...]:
        name = endpoint.ifname
        link = Link(
            name=name,
            kind=self.kind,
            mac=self.mac(endpoint),
            mtu=network.mtu,
            alias=f"cnm:endpoint:{endpoint.id}",
            group=Group.SUB_INTERFACE,
            parent=parent_name(network),
            mode=self.mode(self.parse(network.options)),
        )
        cidrs = filter(None, (endpoint.ipv4, endpoint.ipv6))
        sysctls = [Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if endpoint.ipv6 else "1")]
        if endpoint.ipv6:
            # Its addresses and routes are those of the network, not what a router of the segment advertises.
            sysctls.append(Sysctl(f"net/ipv6/conf/{name}/accept_ra", "0"))
        return (
            KernelState(
                namespace=sandbox.netns,
                links=(link,),
                addresses=tuple(Address(name, cidr) for cidr in cidrs),
                sysctls=tuple(sysctls),
            ),
        )

    def mac(self, endpoint: Endpoint) -> str:
        """The MAC of an endpoint's interface; also where there is no address to derive it from."""
        return endpoint.mac or derived_mac("02:42", endpoint.id)

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
        return self.parse(network.options).interface_prefix

    def gateways(self, network: Network, endpoint: Endpoint) -> tuple[str, str]:
        if network.internal:
            return "", ""
        return (
            self._next_hop(network, network.pools_v4(), endpoint.ipv4),
            self._next_hop(network, network.pools_v6(), endpoint.ipv6),
        )

    def _next_hop(self, network: Network, pools: Sequence[Pool], cidr: str) -> str:
        """By the gateway of the address's own subnet."""
        if not cidr:
            return ""
        options = self.parse(network.options)
        address = ipaddress.ip_interface(cidr).ip
        own = (pool for pool in pools if address in ipaddress.ip_network(pool.subnet))
        return next((self.gateway(options, pool) for pool in own), "") or ON_LINK


def _find_parent(name: str, facts: HostFacts) -> tuple[int, dict[str, str]]:
    """(MTU of the parent, what must be remembered of it). Raises InvalidParameter where it is missing."""
    if not name:
        return _DUMMY_MTU, {}
    if name in facts.interfaces:
        return facts.interfaces[name], {}
    base, dot, number = name.rpartition(".")
    if not dot:
        raise InvalidParameter(
            f"parent interface {name} does not exist on the host: choose one that does (cnm's own do not count)"
        )
    if not number.isdecimal() or not _FIRST_VLAN <= int(number) <= _LAST_VLAN or number != str(int(number)):
        raise InvalidParameter(
            f"invalid parent {name}: a VLAN of {base} has a number from {_FIRST_VLAN} to {_LAST_VLAN}, as in {base}.10"
        )
    if base not in facts.interfaces:
        raise InvalidParameter(
            f"parent interface {name} does not exist on the host, nor does {base} to make it on: choose another"
        )
    return facts.interfaces[base], {_MADE: name}


def _vlan(name: str) -> Link:
    """The same for every network that stands on it."""
    base, _, number = name.rpartition(".")
    return Link(
        name,
        LinkKind.VLAN,
        alias=f"cnm:vlan:{name}",
        group=Group.SUB_INTERFACE,
        parent=base,
        mode=number,
    )


def _dummy(network: Network) -> Link:
    return Link(
        parent_name(network),
        LinkKind.DUMMY,
        mac=derived_mac("02:42", network.id),
        mtu=network.mtu,
        alias=f"cnm:network:{network.id}",
        group=Group.SUB_INTERFACE,
    )
