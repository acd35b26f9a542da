"""The world of the packet tests: a host with a real cnmd, machines on its two uplinks, networks made over the API.

Every network has sandboxes `a` and `b` with servers on ports 80 and 81; `a` publishes its port 80.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host, Server, Topology, probe_all
from tests.support.cnmd import Cnmd, running

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
TRANSPORTS = pytest.mark.parametrize("protocol", ["tcp", "udp"])
PROTOCOLS = pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])

OPEN, UNOPENED = 80, 81
"""Ports of the servers in every sandbox: published by `a`, and not."""
HOST = {4: "192.0.2.1", 6: "2001:db8:1::1"}
"""The host's address on its uplink."""
GIVEN = {4: "192.0.2.9", 6: "2001:db8:1::9"}
"""Another address of the host there: what the containers of network `given` leave with."""
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:1::2"}
"""A machine on the uplink, with routes to all containers through the host."""
FAR = {4: "198.51.100.2", 6: "2001:db8:2::2"}
"""A machine on the host's second uplink."""
HOST_AT_FAR = {4: "198.51.100.1", 6: "2001:db8:2::1"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

PASS_SECONDS = 3.0
"""How long an answer may take that must come: nobody waits for it."""
DROP_SECONDS = 0.25
"""How long we wait for an answer that must not come."""

Probe = Callable[[], bool]
Probes = Mapping[str, Probe]


@dataclass(frozen=True)
class Net:
    """A network of the lab, of a column of the packet table."""

    mode: str
    number: int
    icc: bool = True
    versions: tuple[int, ...] = (4, 6)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def internal(self) -> bool:
        return self.mode in ("internal", "isolated")

    @property
    def translates(self) -> bool:
        return self.mode in ("nat", "unprotected")

    @property
    def any_port(self) -> int:
        """Host port on every address that leads to port 80 of `a`."""
        return 8000 + self.number

    @property
    def one_port(self) -> int:
        """The same on the uplink's address only."""
        return 8100 + self.number

    @property
    def loopback_port(self) -> int:
        """The same on 127.0.0.1 and ::1 only."""
        return 8200 + self.number

    def gateway(self, version: int) -> str:
        return f"10.60.{self.number}.1" if version == 4 else f"fd00:60:{self.number}::1"

    def creation(self) -> dict[str, Any]:
        """Keys of POST /networks/create."""
        subnets = {4: f"10.60.{self.number}.0/24", 6: f"fd00:60:{self.number}::/64"}
        bridge = "com.docker.network.bridge."
        options = {bridge + "enable_icc": str(self.icc).lower(), **self.options}
        mode = {"unprotected": "nat-unprotected", "routed": "routed", "isolated": "isolated"}.get(self.mode)
        if mode:
            options |= {bridge + "gateway_mode_ipv4": mode, bridge + "gateway_mode_ipv6": mode}
        return {
            "Internal": self.internal,
            "EnableIPv4": 4 in self.versions,
            "EnableIPv6": 6 in self.versions,
            "IPAM": {"Config": [{"Subnet": subnets[version]} for version in self.versions]},
            "Options": options,
        }

    def ports(self) -> list[dict[str, Any]]:
        """What `a` publishes."""
        if self.internal:
            return []
        wanted = [("", self.any_port)]
        if self.translates:
            wanted += [(HOST[version], self.one_port) for version in self.versions]
            wanted += [(LOOPBACK[version], self.loopback_port) for version in self.versions]
        return [
            {"Protocol": protocol, "ContainerPort": OPEN, "HostPort": port, "HostIp": address}
            for address, port in wanted
            for protocol in ("tcp", "udp", "sctp")
        ]


_NETWORK = "com.docker.network."
NETWORKS = {
    "nat": Net("nat", 1),
    "nat-2": Net("nat", 2),
    "nat-no-icc": Net("nat", 3, icc=False),
    "internal": Net("internal", 4),
    "internal-no-icc": Net("internal", 5, icc=False),
    "nat-ipv4-only": Net("nat", 6, versions=(4,)),
    "nat-ipv6-only": Net("nat", 7, versions=(6,)),
    "routed": Net("routed", 8),
    "routed-no-icc": Net("routed", 9, icc=False),
    "unprotected": Net("unprotected", 10),
    "unprotected-no-icc": Net("unprotected", 11, icc=False),
    "isolated": Net("isolated", 12),
    "isolated-no-icc": Net("isolated", 13, icc=False),
    "unguarded": Net("nat", 15, options={"cnm.guard": "false"}),
    "given": Net(
        "nat",
        14,
        options={
            _NETWORK + "host_ipv4": GIVEN[4],
            _NETWORK + "host_ipv6": GIVEN[6],
            _NETWORK + "bridge.trusted_host_interfaces": "up2",
        },
    ),
}
MODES = ("nat", "internal", "routed", "unprotected", "isolated")


def world() -> dict[str, Any]:
    """The topology around the host; it does not forward before cnmd comes."""
    routes = [
        {"destination": "10.60.0.0/16", "via": HOST[4]},
        {"destination": "fd00:60::/32", "via": HOST[6]},
    ]
    first = [
        f"{HOST[4]}/24",
        f"{GIVEN[4]}/24",
        f"{GIVEN[6]}/64",
        f"{HOST[6]}/64",
    ]  # the preferred one: IPv4 first, IPv6 last
    return {
        "hosts": {"host": {"uplink": "outside"}, "outside": {"routes": routes}, "far": {"uplink": "host"}},
        "links": [
            _cable("up1", first, "outside", [f"{OUTSIDE[4]}/24", f"{OUTSIDE[6]}/64"]),
            _cable(
                "up2",
                [f"{HOST_AT_FAR[4]}/24", f"{HOST_AT_FAR[6]}/64"],
                "far",
                [f"{FAR[4]}/24", f"{FAR[6]}/64"],
            ),
        ],
    }


def _cable(interface: str, addresses: list[str], peer: str, peer_addresses: list[str]) -> dict[str, Any]:
    return {
        "ends": [
            {"host": "host", "interface": interface, "addresses": addresses},
            {"host": peer, "interface": "eth0", "addresses": peer_addresses},
        ]
    }


class Lab:
    """A running world. Sandboxes are called NETWORK-LETTER."""

    def __init__(self, topology: Topology, daemon: Cnmd, br_netfilter: bool) -> None:
        self.topology = topology
        self.daemon = daemon
        self.br_netfilter = br_netfilter
        self.host = topology.hosts["host"]
        self.outside = topology.hosts["outside"]
        self.far = topology.hosts["far"]
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.bridges: dict[str, str] = {}
        self._servers: list[Server] = []
        for machine in (self.outside, self.far):
            self.serve(machine)

    def make(self, *names: str) -> None:
        """Networks of NETWORKS with their sandboxes and servers."""
        for name in names:
            for letter in "ab":
                self.sandbox(f"{name}-{letter}")
            self.connect(name)

    def connect(self, name: str) -> None:
        """The network and its endpoints."""
        ident = self.daemon.create_network(name, **NETWORKS[name].creation())
        self.bridges[name] = f"cnm-{ident[:11]}"
        for letter in "ab":
            ports = NETWORKS[name].ports() if letter == "a" else []
            self.endpoints[f"{name}-{letter}"] = self.daemon.connect(name, f"{name}-{letter}", Ports=ports)

    def sandbox(self, name: str) -> Host:
        """A sandbox with the two servers, in no network yet."""
        sandbox = self.daemon.create_sandbox(name)
        self.serve(self.topology.adopt(name, sandbox["NetnsPath"]))
        return self.topology.hosts[name]

    def serve(self, host: Host) -> None:
        for port in (OPEN, UNOPENED):
            self._servers += (host.serve_tcp(port), host.serve_udp(port))

    def box(self, network: str, letter: str) -> Host:
        return self.topology.hosts[f"{network}-{letter}"]

    def address(self, network: str, letter: str, version: int) -> str:
        return str(self.endpoints[f"{network}-{letter}"][f"IPv{version}Address"]).partition("/")[0]

    def gateway(self, network: str, version: int) -> str:
        return NETWORKS[network].gateway(version)

    def port(self, network: str, letter: str) -> str:
        """Name of the bridge port of an endpoint."""
        return f"cv{self.endpoints[f'{network}-{letter}']['Id'][:12]}"

    def heard(self) -> int:
        """How many clients all servers have seen, answered or not."""
        return sum(len(server.peers) for server in self._servers)


@contextmanager
def running_lab(
    topology: Topology, place: Path, *, br_netfilter: bool, networks: tuple[str, ...], config: str = ""
) -> Iterator[Lab]:
    """The lab on a topology as `world` describes it, with some of NETWORKS in it; `config` are cnmd's settings."""
    switch_br_netfilter(topology.hosts["host"], br_netfilter)
    with running(place, topology.hosts["host"].popen, config) as daemon:
        lab = Lab(topology, daemon, br_netfilter)
        lab.make(*networks)
        yield lab


def switch_br_netfilter(host: Host, on: bool) -> None:
    for key in ("iptables", "ip6tables"):
        host.sysctl(f"net.bridge.bridge-nf-call-{key}", int(on))


def networks(
    *, modes: tuple[str, ...] = MODES, version: int | None = None, icc: bool | None = None
) -> list[str]:
    """Names of the networks of these modes, with this family, with ICC on or off; None for either."""
    return [
        name
        for name, net in NETWORKS.items()
        if net.mode in modes
        and (version is None or version in net.versions)
        and (icc is None or net.icc is icc)
    ]


def reaches(source: Host, protocol: str, address: str, port: int, seconds: float = DROP_SECONDS) -> bool:
    """Whether an answer comes from `address`; `port` means nothing to icmp."""
    if protocol == "icmp":
        return source.ping(address, timeout=seconds)
    ask = source.connect_tcp if protocol == "tcp" else source.send_udp
    return ask(address, port, timeout=seconds).answered


def ports_of(protocol: str) -> tuple[int, ...]:
    """Every port of a sandbox that is worth a probe; 0 for icmp, which has none."""
    return (0,) if protocol == "icmp" else (OPEN, UNOPENED)


def to_containers(
    lab: Lab, source: Host, names: list[str], protocol: str, version: int, seconds: float = DROP_SECONDS
) -> dict[str, Probe]:
    """Probes of `a` of the networks `names` at its own address, by what they do."""
    return {
        f"{source.name} to {name}-a port {port}": partial(
            reaches, source, protocol, lab.address(name, "a", version), port, seconds
        )
        for name in names
        for port in ports_of(protocol)
    }


def answered(probes: Probes) -> list[str]:
    """Which of the probes were, all made at the same time."""
    outcomes = probe_all(probes.values(), workers=min(len(probes), 128))
    return [name for name, outcome in zip(probes, outcomes, strict=True) if outcome]


def assert_all_pass(probes: Probes) -> None:
    assert probes
    passed = set(answered(probes))
    failed = [name for name in probes if name not in passed]
    assert not failed, f"no answer: {failed}"


def assert_all_dropped(lab: Lab, probes: Probes) -> None:
    """Nobody is answered, and no server hears of it."""
    assert probes
    before = lab.heard()
    answers = answered(probes)
    assert not answers, f"answered: {answers}"
    assert lab.heard() == before
