"""Networks of every gateway mode, made by hand around our ruleset: for tests of rules without a daemon.

Each network has two containers, `a` and `b`, and no ICC; `a` publishes. Container ports 80 and 81 have servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cnm.endpoint import PortMapping, Protocol
from cnm.firewall import ruleset
from cnm.firewall.elements import attach_elements, host_elements, network_elements, publish_elements
from cnm.firewall.modes import GatewayMode
from cnm.kernel.nft import Nft
from cnm.kernel.state import FirewallElement, Group
from netns_fixtures import Host, Topology

MODES = {
    "nat": GatewayMode.NAT,
    "other": GatewayMode.NAT,
    "routed": GatewayMode.ROUTED,
    "open": GatewayMode.NAT_UNPROTECTED,
    "internal": GatewayMode.INTERNAL,
}
HOST_PORTS = {"nat": 8080, "open": 8082}
"""Published on every address of the host; container port 80."""
LOOPBACK_PORT = 8081
"""Of network nat, published on 127.0.0.1 and ::1 only; container port 80."""


def container_address(network: str, letter: str, version: int) -> str:
    index, last = list(MODES).index(network) + 1, "ab".index(letter) + 2
    return f"10.88.{index}.{last}" if version == 4 else f"fd00:88:{index}::{last}"


def host_address(version: int) -> str:
    """The host's address on the uplink."""
    return "192.0.2.1" if version == 4 else "2001:db8:1::1"


def gateway_address(network: str, version: int) -> str:
    index = list(MODES).index(network) + 1
    return f"10.88.{index}.1" if version == 4 else f"fd00:88:{index}::1"


def far_address(version: int) -> str:
    """Of host `far`, beyond the host's second uplink."""
    return "198.51.100.2" if version == 4 else "2001:db8:2::2"


class FirewallLab:
    """The topology with our tables in its host; `elements` are what is in them."""

    def __init__(self, topology: Topology, br_netfilter: bool) -> None:
        self.topology = topology
        self.br_netfilter = br_netfilter
        self.host = topology.hosts["host"]
        self._mark_links()
        self._know_neighbours()
        self.elements = tuple(self._elements())
        with self.host.enter():
            self.nft = Nft()
        self.nft.start(ruleset.start_text(self.elements))
        for name, host in topology.hosts.items():
            if name != "host":
                for port in (80, 81):
                    host.serve_tcp(port)
                    host.serve_udp(port)

    def container(self, network: str, letter: str) -> Host:
        return self.topology.hosts[f"{network}-{letter}"]

    @contextmanager
    def without(self, *elements: FirewallElement) -> Iterator[None]:
        self.nft.apply((), elements)
        try:
            yield
        finally:
            self.nft.apply(elements, ())

    def _mark_links(self) -> None:
        onoff = "1" if self.br_netfilter else "0"
        for key in ("iptables", "ip6tables"):
            self.host.sysctl(f"net.bridge.bridge-nf-call-{key}", onoff)
        flag = ["hairpin", "on"] if self.br_netfilter else ["isolated", "on"]
        for index, network in enumerate(MODES):
            self.host.run(["ip", "link", "set", bridge(network), "group", str(int(Group.BRIDGE))])
            self.host.sysctl(f"net.ipv4.conf.{bridge(network)}.route_localnet", "1")
            if not self.br_netfilter:
                route = ["::1/128", "dev", bridge(network), "table", "local", "metric", str(index + 2)]
                self.host.run(["ip", "-6", "route", "add", "local", *route])
            for letter in "ab":
                port = bridge_port(network, letter)
                self.host.run(["ip", "link", "set", port, "group", str(int(Group.PORT))])
                self.host.run(["bridge", "link", "set", "dev", port, *flag])

    def _know_neighbours(self) -> None:
        """As the daemon does for the host; and containers know their gateway, so that no retry of ARP is waited for."""
        for network in MODES:
            for letter in "ab":
                container = self.container(network, letter)
                for version in (4, 6):
                    own, gateway = (
                        container_address(network, letter, version),
                        gateway_address(network, version),
                    )
                    _permanent(self.host, own, container.mac("eth0"), bridge(network))
                    _permanent(container, gateway, self.host.mac(bridge(network)), "eth0")

    def _elements(self) -> Iterator[FirewallElement]:
        yield from host_elements(routing_ipv4=False, routing_ipv6=False, bridge_nf_ipv6=self.br_netfilter)
        for network, mode in MODES.items():
            yield from network_elements(
                bridge(network), mode_ipv4=mode, mode_ipv6=mode, icc=False, masquerade=True
            )
            for letter in "ab":
                yield from attach_elements(
                    bridge_port(network, letter),
                    mac=self.container(network, letter).mac("eth0"),
                    ipv4=container_address(network, letter, 4),
                    ipv6=container_address(network, letter, 6),
                    guard=True,
                    mode_ipv4=mode,
                    mode_ipv6=mode,
                )
            yield from publish_elements(
                list(_published(network)),
                ipv4=container_address(network, "a", 4),
                ipv6=container_address(network, "a", 6),
                mode_ipv4=mode,
                mode_ipv6=mode,
            )


def _permanent(host: Host, address: str, mac: str, interface: str) -> None:
    entry = [address, "lladdr", mac, "dev", interface, "nud", "permanent"]
    host.run(["ip", "neigh", "replace", *entry])


def bridge(network: str) -> str:
    return f"cnm-{network}"


def bridge_port(network: str, letter: str) -> str:
    return f"cv-{network}-{letter}"


def _published(network: str) -> Iterator[PortMapping]:
    for protocol in (Protocol.TCP, Protocol.UDP):
        if network in HOST_PORTS:
            yield PortMapping(protocol=protocol, container_port=80, host_port=HOST_PORTS[network])
        if network == "nat":
            for loopback in ("127.0.0.1", "::1"):
                yield PortMapping(
                    protocol=protocol, container_port=80, host_port=LOOPBACK_PORT, host_address=loopback
                )
        if network == "routed":
            yield PortMapping(protocol=protocol, container_port=80)


def description() -> dict[str, Any]:
    """A topology file's content: the host, its networks, two hosts outside, and somebody else's bridge."""
    hosts: dict[str, Any] = {"host": {"forward": True, "bridges": {"br0": {}}}}
    links: list[dict[str, Any]] = []
    for outside, index in (("near", 1), ("far", 2)):
        hosts[outside] = {"uplink": "host"}
        net = ("192.0.2", "198.51.100")[index - 1]
        links.append(
            _link(
                f"up{index}",
                [f"{net}.1/24", f"2001:db8:{index}::1/64"],
                outside,
                f"{net}.2/24",
                f"2001:db8:{index}::2/64",
            )
        )
    for guest, last in (("guest1", 1), ("guest2", 2)):
        hosts[guest] = {}
        links.append(_port(f"tap{last}", "br0", guest, f"172.30.0.{last}/24", f"fd00:30::{last}/64"))
    for network in MODES:
        gateways = [f"{gateway_address(network, 4)}/24", f"{gateway_address(network, 6)}/64"]
        hosts["host"]["bridges"][bridge(network)] = {"addresses": gateways}
        for letter in "ab":
            name = f"{network}-{letter}"
            hosts[name] = {"uplink": "host"}
            addresses = (
                f"{container_address(network, letter, 4)}/24",
                f"{container_address(network, letter, 6)}/64",
            )
            links.append(_port(bridge_port(network, letter), bridge(network), name, *addresses))
    return {"hosts": hosts, "links": links}


def _link(interface: str, addresses: list[str], peer: str, *peer_addresses: str) -> dict[str, Any]:
    return {
        "ends": [
            {"host": "host", "interface": interface, "addresses": addresses},
            {"host": peer, "interface": "eth0", "addresses": list(peer_addresses)},
        ]
    }


def _port(interface: str, bridge_name: str, peer: str, *peer_addresses: str) -> dict[str, Any]:
    return {
        "ends": [
            {"host": "host", "interface": interface, "bridge": bridge_name},
            {"host": peer, "interface": "eth0", "addresses": list(peer_addresses)},
        ]
    }
