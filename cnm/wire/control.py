"""Records of /cnm/v1, the part of the control API that Docker has no word for; docs/api.md is their page.

Requests refuse unknown keys, so that a misspelt one is no silent default.
"""

from __future__ import annotations

import msgspec

from cnm.wire.engine import EndpointSettings, PortRequest
from cnm.wire.keys import docker_key


class _Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """A record with keys in Docker's style."""


class _Request(_Record, kw_only=True, forbid_unknown_fields=True):
    """A record that a client sends."""


class SandboxCreate(_Request, kw_only=True):
    """Body of POST /cnm/v1/sandboxes; without `netns_path` the sandbox gets a namespace of its own.

    `hostname` "": its short id; the next three replace the host's; `extra_hosts` are NAME:ADDRESS or NAME=ADDRESS.
    `id` is 64 hex digits of the owner's choice, "" for one of ours.
    """

    id: str | None = msgspec.field(name="Id", default="")
    name: str
    netns_path: str | None = ""
    labels: dict[str, str] | None = None
    hostname: str | None = ""
    dns: list[str] | None = None
    dns_search: list[str] | None = None
    dns_options: list[str] | None = None
    extra_hosts: list[str] | None = None


class SandboxRename(_Request, kw_only=True):
    """Body of POST /cnm/v1/sandboxes/{sandbox}/rename."""

    name: str


class RecordCreate(_Request, kw_only=True):
    """Body of POST /cnm/v1/networks/{network}/dns; `value` is an address, or a name that `name` stands for."""

    name: str
    value: str


class NameRecord(_Record, kw_only=True):
    """A name of a network that is no endpoint's; `type` A, AAAA or CNAME."""

    name: str
    type: str
    value: str


class EndpointCreate(_Request, kw_only=True):
    """Body of POST /cnm/v1/endpoints."""

    network: str
    name: str | None = ""
    endpoint_config: EndpointSettings | None = None


class EndpointJoin(_Request, kw_only=True):
    """Body of POST /cnm/v1/endpoints/{ref}/join."""

    sandbox: str


class EndpointLeave(_Request, kw_only=True):
    """Body of POST /cnm/v1/endpoints/{ref}/leave; `wait`: until the interface is gone, not just cut off."""

    wait: bool | None = False


class PortsRequest(_Request, kw_only=True):
    """Body of POST and DELETE /cnm/v1/endpoints/{ref}/ports."""

    ports: list[PortRequest]


class Port(_Record, kw_only=True):
    """A published port, or `count` consecutive ones; `relay` where the client's source address is lost."""

    protocol: str
    container_port: int
    host_port: int
    host_ip: str = msgspec.field(name="HostIp")
    count: int
    relay: bool
    note: str


class Ports(_Record, kw_only=True):
    """Answer of POST /cnm/v1/endpoints/{ref}/ports: those added."""

    ports: list[Port]


class Endpoint(_Record, kw_only=True):
    """An endpoint as it is; addresses are CIDR text, gateways bare; "" where there is none."""

    id: str = msgspec.field(name="Id")
    name: str
    network: str
    network_id: str = msgspec.field(name="NetworkId")
    sandbox: str
    sandbox_id: str = msgspec.field(name="SandboxId")
    state: str
    if_name: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str
    gateway: str
    ipv6_gateway: str
    aliases: list[str]
    driver_opts: dict[str, str]
    gw_priority: int
    ports: list[Port]


class Sandbox(_Record, kw_only=True):
    """A sandbox as it is; `gateway` is the id of the endpoint that its default route leaves by.

    `hostname` is "" where it is the host's own; the paths are "" where the files are dockerd's.
    """

    id: str = msgspec.field(name="Id")
    name: str
    netns_path: str
    kind: str
    created: str
    state: str
    labels: dict[str, str]
    hostname: str
    dns: list[str]
    dns_search: list[str]
    dns_options: list[str]
    extra_hosts: list[str]
    hosts_path: str
    hostname_path: str
    resolv_conf_path: str
    gateway: str
    endpoints: list[Endpoint]


class Finding(_Record, kw_only=True):
    """One difference between what must exist and what the kernel has; namespace "" is the host's."""

    namespace: str
    kind: str
    problem: str
    object: str
    detail: str


class Findings(_Record, kw_only=True):
    """Answer of GET /cnm/v1/doctor and POST /cnm/v1/repair."""

    findings: list[Finding]


class Families(_Record, kw_only=True):
    """A switch of the host that exists per address family."""

    ipv4: bool = msgspec.field(name="ipv4")
    ipv6: bool = msgspec.field(name="ipv6")


class Uplink(_Record, kw_only=True):
    """The interface that carries the host's default route, "" where there is none; MTU in bytes."""

    name: str
    mtu: int


class Neighbour(_Record, kw_only=True):
    """Another program that has a say over our packets; its state is "open", "unused" or "blocked"."""

    name: str
    state: str
    detail: str


class Status(_Record, kw_only=True):
    """Answer of GET /cnm/v1/status."""

    version: str
    networks: int
    endpoints: int
    sandboxes: int
    ports: int
    bridge_netfilter: Families
    forwarding: Families
    uplink: Uplink
    neighbours: list[Neighbour]
    warnings: list[str]


class Health(_Record, kw_only=True):
    """Answer of GET /cnm/v1/health and /cnm/v1/ready."""

    status: str
