"""dockerd's own view: networks, containers, and what of them is live."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}


def new_id() -> str:
    """64 hex digits."""
    return secrets.token_hex(32)


@dataclass(frozen=True)
class Subnet:
    """One subnet of `docker network create`; "" where it is left to the IPAM driver."""

    pool: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] = field(default_factory=dict)


@dataclass
class Pool:
    """A subnet as allocated: `subnet` and `gateway` in CIDR notation, auxiliary addresses likewise."""

    asked: Subnet
    v6: bool
    space: str
    id: str
    subnet: str
    gateway: str = ""
    auxiliary: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Network:
    """A network of dockerd's; `driver` and `ipam` are names of drivers."""

    id: str
    name: str
    driver: str
    ipam: str
    options: dict[str, str]
    ipam_options: dict[str, str]
    internal: bool
    ipv4: bool
    ipv6: bool
    pools: list[Pool] = field(default_factory=list)


@dataclass(frozen=True)
class Attachment:
    """What the user wants of a container's endpoint in one network."""

    ip: str = ""
    ip6: str = ""
    mac: str = ""
    driver_options: dict[str, str] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True)
class Port:
    """A published port; `host_port` 0 leaves the choice to the driver."""

    container: int
    protocol: str = "tcp"
    host_address: str = ""
    host_port: int = 0

    @classmethod
    def parse(cls, text: str) -> list[Port]:
        """The ports of `-p [[address:]host[-last]:]container[-last][/protocol]`."""
        text, _, protocol = text.partition("/")
        *host, container = text.rsplit(":", 2)
        address, ports = ("", "") if not host else (host[0] if len(host) == 2 else "", host[-1])
        first, last = _span(container)
        host_first = _span(ports)[0] if ports else 0
        return [
            cls(first + n, protocol or "tcp", address.strip("[]"), host_first + n if host_first else 0)
            for n in range(last - first + 1)
        ]

    @property
    def exposed(self) -> tuple[int, int]:
        """(protocol number, port)."""
        return PROTOCOL_NUMBERS[self.protocol], self.container

    def binding(self) -> dict[str, Any]:
        """An item of the option com.docker.network.portmap."""
        return {
            "Proto": PROTOCOL_NUMBERS[self.protocol],
            "IP": "",
            "Port": self.container,
            "HostIP": self.host_address,
            "HostPort": self.host_port,
            "HostPortEnd": self.host_port,
        }


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


@dataclass(eq=False)
class Endpoint:
    """A container's place in a network while the container runs."""

    id: str
    network: Network
    attachment: Attachment
    address: str = ""
    address6: str = ""
    mac: str = ""
    leases: list[tuple[str, str]] = field(default_factory=list)
    """(pool id, bare address) to give back."""
    link: str = ""
    link_prefix: str = ""
    gateway: str = ""
    gateway6: str = ""
    routes: list[dict[str, Any]] = field(default_factory=list)
    no_gateway_service: bool = False
    joined: bool = False

    @property
    def serves_ipv4(self) -> bool:
        """Whether it can be the way out for IPv4."""
        return bool(self.gateway) or any(r["Destination"] == "0.0.0.0/0" for r in self.routes)

    @property
    def serves_ipv6(self) -> bool:
        """Whether it can be the way out for IPv6."""
        return bool(self.gateway6) or any(r["Destination"] == "::/0" for r in self.routes)


@dataclass(eq=False)
class Sandbox:
    """The network namespace of a running container; endpoints are sorted, the best gateway first."""

    id: str
    key: str
    endpoints: list[Endpoint] = field(default_factory=list)
    gateway_bridge: Endpoint | None = None
    """The endpoint in docker_gwbridge; it is one of the endpoints."""
    deleting: bool = False


@dataclass(eq=False)
class Container:
    """A container; it runs while it has a sandbox."""

    name: str
    attachments: dict[str, Attachment]
    """By the name of the network."""
    ports: list[Port] = field(default_factory=list)
    exposed: list[tuple[int, int]] = field(default_factory=list)
    """(protocol number, port) of `--expose`."""
    dns: list[str] = field(default_factory=list)
    restarts_always: bool = False
    sandbox: Sandbox | None = None

    def published_options(self) -> dict[str, Any]:
        """The options of a sandbox: Join and ProgramExternalConnectivity have them."""
        exposed = sorted({port.exposed for port in self.ports} | set(self.exposed))
        return _port_options(exposed, self.ports)

    def endpoint_options(self, published_only: bool) -> dict[str, Any]:
        """The port options of CreateEndpoint."""
        exposed = {port.exposed for port in self.ports} | (set() if published_only else set(self.exposed))
        return _port_options(sorted(exposed), self.ports)


def _port_options(exposed: list[tuple[int, int]], ports: list[Port]) -> dict[str, Any]:
    return {
        "com.docker.network.endpoint.exposedports": [{"Proto": p, "Port": n} for p, n in exposed],
        "com.docker.network.portmap": [port.binding() for port in ports],
    }
