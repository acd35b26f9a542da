"""What a topology is, as plain data: the same shape in code (these classes) and in a TOML file.

Addresses are CIDR text ("192.0.2.1/24", "2001:db8::1/64"), MACs colon-separated hex, MTUs bytes with 0 for
the kernel's default. The classes only hold values; `netns_fixtures.check` says whether they fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route to `destination`, CIDR text or "default": `via` an address, out of an `interface`, or both."""

    destination: str
    via: str = ""
    interface: str = ""


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A Linux bridge inside a host; the ends of links become its ports by naming it."""

    addresses: tuple[str, ...] = ()
    mac: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host: one network namespace."""

    uplink: str = ""
    """The neighbour that the default routes lead through, for each family in which both have an address."""
    forward: bool = False
    """Whether it forwards packets between its interfaces, IPv4 and IPv6: whether it is a router."""
    loopback: tuple[str, ...] = ()
    """Further addresses of `lo`, beside 127.0.0.1 and ::1."""
    bridges: Mapping[str, BridgeSpec] = field(default_factory=dict)
    routes: tuple[RouteSpec, ...] = ()
    sysctls: Mapping[str, str | int] = field(default_factory=dict)
    """Values under /proc/sys/net, as sysctl(8) writes the keys: "net.ipv4.conf.eth0.rp_filter"."""


@dataclass(frozen=True, slots=True)
class EndSpec:
    """One end of a link: an interface of a host, with addresses or as a port of a bridge of that host."""

    host: str
    interface: str
    addresses: tuple[str, ...] = ()
    bridge: str = ""
    mac: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.interface}"


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A cable: a veth pair between two hosts, or between two bridges of one host."""

    ends: tuple[EndSpec, EndSpec]
    mtu: int = 0

    def __str__(self) -> str:
        return f'link "{self.ends[0]} - {self.ends[1]}"'


@dataclass(frozen=True, slots=True)
class TopologySpec:
    """Hosts by name and the links between them."""

    hosts: Mapping[str, HostSpec] = field(default_factory=dict)
    links: tuple[LinkSpec, ...] = ()

    def ends_of(self, host: str) -> tuple[EndSpec, ...]:
        """The ends of links in a host, in the order of the links."""
        return tuple(end for link in self.links for end in link.ends if end.host == host)

    def addresses_of(self, host: str) -> dict[str, tuple[str, ...]]:
        """The configured addresses of a host's bridges and link ends, by interface name (`lo` left out)."""
        bridges = {name: bridge.addresses for name, bridge in self.hosts[host].bridges.items()}
        return bridges | {end.interface: end.addresses for end in self.ends_of(host)}
