"""Make the links, addresses and routes of a topology, and wait until its cables carry packets.

Both ends of a cable are made in their namespaces by one message: moving an interface afterwards costs 17 ms.
The two ends of a cable get different indexes: where both ends of a veth pair have the same one, the kernel
takes the news that the cable is on for no hurry, and the end (a bridge port, say) stays mute for up to a
second. All netlink sockets are made by the calling thread inside the namespaces, since pyroute2's own way
there forks.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import ip_interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netns_fixtures import sysctl
from netns_fixtures.check import destination
from netns_fixtures.errors import KernelRefused
from netns_fixtures.namespace import Namespace
from netns_fixtures.segments import uplink_routes
from netns_fixtures.spec import HostSpec, LinkSpec, RouteSpec, TopologySpec

_IFA_F_NODAD = 0x02
_IF_READY = 0x80000000
"""A flag in IFLA_INET6_FLAGS, of <net/if_inet6.h>."""
_FIRST_INDEX = 1000
"""Far from 2, 3, ... which the kernel gives to the far ends (pyroute2 cannot ask for another there)."""
_CARRIER_SECONDS = 5.0
_CARRIER_POLL_SECONDS = 0.002

_DEFAULT_SYSCTLS: Mapping[str, str | int] = {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv6.conf.all.disable_ipv6": 0,
    "net.ipv6.conf.default.disable_ipv6": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv4.icmp_msgs_per_sec": 1_000_000,
    "net.ipv4.icmp_msgs_burst": 1_000_000,
    "net.ipv6.icmp.ratelimit": 0,
    "net.bridge.bridge-nf-call-iptables": 0,
    "net.bridge.bridge-nf-call-ip6tables": 0,
    "net.bridge.bridge-nf-call-arptables": 0,
}
"""What a new namespace may inherit from the machine, set so that a topology behaves alike everywhere.

Without accept_dad=0 link-local addresses would be unusable for the first second; with a limit on ICMP errors,
probes in parallel would be refused or time out by chance.
"""


def build(topology: TopologySpec, namespaces: Mapping[str, Namespace]) -> None:
    """Fill empty namespaces, one for each host of a checked topology; KernelRefused names what failed."""
    with ExitStack() as sockets:
        netlink = {name: sockets.enter_context(open_netlink(space)) for name, space in namespaces.items()}
        indexes = itertools.count(_FIRST_INDEX)
        for name, host in topology.hosts.items():
            with namespaces[name].enter():
                _set_first_sysctls(name, host)
            _make_bridges(name, host, netlink[name], indexes)
        for link in topology.links:
            _make_link(link, netlink, namespaces, indexes)
        for name in topology.hosts:
            _configure(topology, name, netlink[name])
            with namespaces[name].enter():
                _set_sysctls(name, topology.hosts[name].sysctls)
        _await_carriers(topology, netlink)


@contextmanager
def open_netlink(namespace: Namespace) -> Iterator[Any]:
    """A pyroute2 `IPRoute` in a namespace, for the calling thread only; pyroute2 has a socket per thread."""
    with namespace.enter():
        netlink = IPRoute()
    try:
        yield netlink
    finally:
        netlink.close()


def _set_first_sysctls(name: str, host: HostSpec) -> None:
    """The values that interfaces take over when they are made."""
    forwarding = {"net.ipv4.ip_forward": int(host.forward), "net.ipv6.conf.all.forwarding": int(host.forward)}
    present = {key: value for key, value in _DEFAULT_SYSCTLS.items() if sysctl.exists(key)}
    inherited = {key: value for key, value in host.sysctls.items() if sysctl.exists(key)}
    _set_sysctls(name, present | forwarding | inherited)


def _set_sysctls(name: str, values: Mapping[str, str | int]) -> None:
    for key, value in values.items():
        try:
            sysctl.write(key, value)
        except OSError as error:
            raise KernelRefused(
                f'host "{name}": sysctl "{key}" cannot be set to {value}: {error.strerror}'
            ) from error


def _make_bridges(name: str, host: HostSpec, netlink: Any, indexes: Iterator[int]) -> None:
    for bridge_name, bridge in host.bridges.items():
        attributes = _link_attributes(bridge_name, bridge.mac, bridge.mtu)
        with _refusal(f'host "{name}": bridge "{bridge_name}"'):
            netlink.link("add", kind="bridge", index=next(indexes), **attributes)


def _make_link(
    link: LinkSpec, netlink: Mapping[str, Any], namespaces: Mapping[str, Namespace], indexes: Iterator[int]
) -> None:
    near, far = link.ends
    attributes = _link_attributes(near.interface, near.mac, link.mtu)
    peer = _link_attributes(far.interface, far.mac, link.mtu)
    peer["net_ns_fd"] = str(namespaces[far.host].path)
    with _refusal(str(link)):
        netlink[near.host].link("add", kind="veth", index=next(indexes), peer=peer, **attributes)


def _link_attributes(name: str, mac: str, mtu: int) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"ifname": name}
    if mac:
        attributes["address"] = mac
    if mtu:
        attributes["mtu"] = mtu
    return attributes


def _configure(topology: TopologySpec, name: str, netlink: Any) -> None:
    """Bring up what is in one host: bridges before their ports, addresses before the routes over them."""
    host = topology.hosts[name]
    index = {link.get("ifname"): link["index"] for link in netlink.get_links()}
    masters = {end.interface: index[end.bridge] for end in topology.ends_of(name) if end.bridge}
    by_interface = {"lo": host.loopback} | topology.addresses_of(name)
    for interface, addresses in by_interface.items():
        with _refusal(f'host "{name}": interface "{interface}"'):
            master = {"master": masters[interface]} if interface in masters else {}
            netlink.link("set", index=index[interface], state="up", **master)
        for address in addresses:
            _add_address(name, netlink, index[interface], address)
    for route in host.routes + (uplink_routes(topology, name) if host.uplink else ()):
        _add_route(name, netlink, route, index)


def _add_address(name: str, netlink: Any, index: int, address: str) -> None:
    parsed = ip_interface(address)
    flags = {"flags": _IFA_F_NODAD} if parsed.version == 6 else {}
    with _refusal(f'host "{name}": address {address}'):
        netlink.addr("add", index=index, address=str(parsed.ip), prefixlen=parsed.network.prefixlen, **flags)


def _add_route(name: str, netlink: Any, route: RouteSpec, index: Mapping[str, int]) -> None:
    attributes: dict[str, Any] = {"dst": destination(route)}
    if route.via:
        attributes["gateway"] = route.via
    if route.interface:
        attributes["oif"] = index[route.interface]
    with _refusal(f'host "{name}": route to {route.destination}'):
        netlink.route("add", **attributes)


@contextmanager
def _refusal(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise KernelRefused(f"{what}: the kernel refused it: {error.args[1]}") from error


def _await_carriers(topology: TopologySpec, netlink: Mapping[str, Any]) -> None:
    """Wait for the kernel's work queue, which turns a cable on; until then packets are dropped.

    Link-local addresses come at the same moment.
    """
    deadline = time.monotonic() + _CARRIER_SECONDS
    for name in topology.hosts:
        wanted = set(topology.addresses_of(name)) - _bridges_without_ports(topology, name)
        while dark := wanted - _interfaces_up(netlink[name]):
            if time.monotonic() > deadline:
                raise KernelRefused(f'host "{name}": interface "{min(dark)}" did not come up')
            time.sleep(_CARRIER_POLL_SECONDS)


def _bridges_without_ports(topology: TopologySpec, name: str) -> set[str]:
    return set(topology.hosts[name].bridges) - {end.bridge for end in topology.ends_of(name)}


def _interfaces_up(netlink: Any) -> set[str]:
    return {link.get("ifname") for link in netlink.get_links() if _carries_packets(link) and _has_ipv6(link)}


def _carries_packets(link: Any) -> bool:
    """A bridge may stay UNKNOWN, which counts as up in the kernel too (netif_oper_up)."""
    is_up = link.get("operstate") in ("UP", "UNKNOWN")
    return bool(is_up and link.get("carrier") and link.get("qdisc") != "noop")


def _has_ipv6(link: Any) -> bool:
    """Whether the kernel has given the interface its link-local address, or is not going to."""
    families = link.get("af_spec")
    inet6 = families and families.get("AF_INET6")
    if not inet6 or not inet6.get("inet6_conf"):
        return True
    return bool(inet6.get("IFLA_INET6_FLAGS") & _IF_READY or inet6.get("inet6_conf").get("disable_ipv6"))
