"""Records of the Docker Engine API, as far as networks, events and the daemon's description go.

Requests ignore unknown keys and take null for "not given", as Docker does. A sandbox stands in `Container`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cnm.wire.keys import docker_key


class _Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """A record with Docker's keys."""


class IpamConfig(_Record, kw_only=True, omit_defaults=True):
    """One subnet of a network, in requests and answers."""

    subnet: str | None = ""
    ip_range: str | None = ""
    gateway: str | None = ""
    auxiliary_addresses: dict[str, str] | None = {}


class Ipam(_Record, kw_only=True):
    """How a network's addresses are managed; `config` null where nothing was asked or allocated."""

    driver: str | None = "default"
    options: dict[str, str] | None = None
    config: list[IpamConfig] | None = None


class ConfigReference(_Record, kw_only=True):
    """The configuration network that another one takes its settings from."""

    network: str | None = ""


class NetworkCreate(_Record, kw_only=True):
    """Body of POST /networks/create."""

    name: str | None = None
    driver: str | None = None
    scope: str | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: Ipam | None = None
    internal: bool | None = None
    attachable: bool | None = None
    ingress: bool | None = None
    config_only: bool | None = None
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkCreated(_Record, kw_only=True):
    """Answer of POST /networks/create."""

    id: str = msgspec.field(name="Id")
    warning: str = ""


class EndpointIpamConfig(_Record, kw_only=True):
    """Addresses that were asked for, without prefix lengths."""

    ipv4_address: str | None = None
    ipv6_address: str | None = None
    link_local_ips: list[str] | None = None


class PortRequest(_Record, kw_only=True):
    """A port to publish; host port 0: any free one; end 0: the same as the start."""

    protocol: str | None = "tcp"
    container_port: int
    container_port_end: int | None = 0
    host_port: int | None = 0
    host_port_end: int | None = 0
    host_ip: str | None = msgspec.field(name="HostIp", default="")


class EndpointSettings(_Record, kw_only=True):
    """How a sandbox takes part in a network: Docker's keys, and `IfName` and `Ports` of ours."""

    ipam_config: EndpointIpamConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int | None = None
    if_name: str | None = None
    ports: list[PortRequest] | None = None


class NetworkConnect(_Record, kw_only=True):
    """Body of POST /networks/{ref}/connect."""

    container: str | None = None
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(_Record, kw_only=True):
    """Body of POST /networks/{ref}/disconnect."""

    container: str | None = None
    force: bool | None = None


class EndpointResource(_Record, kw_only=True):
    """One line of a network's `Containers`; addresses are CIDR text, "" where there is none."""

    name: str
    endpoint_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str


class SubnetStatus(_Record, kw_only=True):
    """Use of one subnet; both numbers saturate at 2**64 - 1."""

    ips_in_use: int
    dynamic_ips_available: int


class IpamStatus(_Record, kw_only=True):
    """Use of a network's subnets, by CIDR text."""

    subnets: dict[str, SubnetStatus]


class NetworkStatus(_Record, kw_only=True):
    """What `inspect` tells of a network at run time (API 1.52)."""

    ipam: IpamStatus


class PeerInfo(_Record, kw_only=True):
    """One line of a global network's `Peers`: a host that has endpoints in it, and its end of tunnels."""

    name: str
    ip: str = msgspec.field(name="IP")


class Network(_Record, kw_only=True):
    """Answer of GET /networks/{ref}, and one line of GET /networks. Keys in Docker's order."""

    name: str
    id: str = msgspec.field(name="Id")
    created: str
    scope: str
    driver: str
    enable_ipv4: bool | msgspec.UnsetType = msgspec.UNSET
    enable_ipv6: bool
    ipam: Ipam
    internal: bool
    attachable: bool
    ingress: bool = False
    config_from: ConfigReference = msgspec.field(default_factory=ConfigReference)
    config_only: bool = False
    containers: dict[str, EndpointResource]
    options: dict[str, str]
    labels: dict[str, str]
    peers: list[PeerInfo] | msgspec.UnsetType = msgspec.UNSET
    status: NetworkStatus | msgspec.UnsetType = msgspec.UNSET


class NetworksPruned(_Record, kw_only=True):
    """Answer of POST /networks/prune; null where nothing was deleted, as Docker has it."""

    networks_deleted: list[str] | None


class Actor(_Record, kw_only=True):
    """The object that an event is about."""

    id: str
    attributes: dict[str, str]


class Event(_Record, kw_only=True):
    """One line of GET /events; `time` in seconds and `time_nano` in nanoseconds since the epoch."""

    type: str
    action: str
    actor: Actor
    scope: str = msgspec.field(name="scope", default="local")
    time: int = msgspec.field(name="time")
    time_nano: int = msgspec.field(name="timeNano")


class Platform(_Record, kw_only=True):
    """The product's name, as `docker version` prints it."""

    name: str


class Component(_Record, kw_only=True):
    """One part of the daemon, as `docker version` prints it."""

    name: str
    version: str
    details: dict[str, str]


class Version(_Record, kw_only=True):
    """Answer of GET /version."""

    platform: Platform
    components: list[Component]
    version: str
    api_version: str = msgspec.field(name="ApiVersion")
    min_api_version: str = msgspec.field(name="MinAPIVersion")
    git_commit: str = ""
    go_version: str = ""
    os: str
    arch: str
    kernel_version: str
    build_time: str = ""


class Plugins(_Record, kw_only=True):
    """Drivers by kind, as `docker info` prints them."""

    volume: list[str] = []
    network: list[str]
    authorization: list[str] | None = None
    log: list[str] = []


class Swarm(_Record, kw_only=True):
    """This daemon takes part in no swarm."""

    node_id: str = ""
    node_addr: str = ""
    local_node_state: str = "inactive"
    control_available: bool = False
    error: str = ""
    remote_managers: list[str] | None = None


class Info(_Record, kw_only=True):
    """Answer of GET /info: Docker's keys that mean something here, and those that its clients insist on."""

    id: str
    name: str
    server_version: str
    containers: int = 0
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    images: int = 0
    driver: str = ""
    driver_status: list[list[str]] = []
    system_status: list[list[str]] | None = None
    plugins: Plugins
    ipv4_forwarding: bool = msgspec.field(name="IPv4Forwarding")
    bridge_nf_iptables: bool = msgspec.field(name="BridgeNfIptables")
    bridge_nf_ip6tables: bool = msgspec.field(name="BridgeNfIp6tables")
    memory_limit: bool = True
    """This and the next six: clients from before 20.10 warn where they are false; no container is limited here."""
    swap_limit: bool = True
    cpu_cfs_period: bool = msgspec.field(name="CpuCfsPeriod", default=True)
    cpu_cfs_quota: bool = msgspec.field(name="CpuCfsQuota", default=True)
    cpu_shares: bool = msgspec.field(name="CPUShares", default=True)
    cpu_set: bool = msgspec.field(name="CPUSet", default=True)
    oom_kill_disable: bool = True
    debug: bool = False
    experimental_build: bool = False
    live_restore_enabled: bool = True
    kernel_version: str
    operating_system: str
    os_type: str = msgspec.field(name="OSType", default="linux")
    os_version: str = msgspec.field(name="OSVersion", default="")
    architecture: str
    n_cpu: int = msgspec.field(name="NCPU")
    mem_total: int
    system_time: str
    docker_root_dir: str = ""
    index_server_address: str = ""
    registry_config: dict[str, Any] | None = None
    labels: list[str] = []
    runtimes: dict[str, Any] = {}
    default_runtime: str = ""
    swarm: Swarm = msgspec.field(default_factory=Swarm)
    isolation: str = ""
    security_options: list[str] = []
    warnings: list[str] = []
