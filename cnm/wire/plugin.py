"""Records of the Docker plugin protocol, network and IPAM part: what dockerd asks and what a plugin answers.

One set of records serves both sides: cnm as a plugin of dockerd, and cnm as the caller of other people's plugins. The
names are Go's, unrenamed. dockerd sends every key always and decodes answers leniently; so do we: a key that is absent
or null counts as empty. Source: github.com/moby/moby, daemon/libnetwork/drivers/remote/api and ipams/remote/api.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cnm.wire.keys import docker_key

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
NETWORK_DRIVER, IPAM_DRIVER = "NetworkDriver", "IpamDriver"

# Keys of `Options`.
GENERIC = "com.docker.network.generic"
"""The user's `-o key=value`, a map of texts."""
ENABLE_IPV4 = "com.docker.network.enable_ipv4"
ENABLE_IPV6 = "com.docker.network.enable_ipv6"
INTERNAL = "com.docker.network.internal"
PORT_MAP = "com.docker.network.portmap"
EXPOSED_PORTS = "com.docker.network.endpoint.exposedports"
MAC_ADDRESS = "com.docker.network.endpoint.macaddress"
"""The six bytes in base64, beside their text in the interface."""
DNS_SERVERS = "com.docker.network.endpoint.dnsservers"
NO_PROXY_6TO4 = "com.docker.network.driver.private.no_proxy_6to4"

PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
"""IANA numbers of the protocols that ports are published for."""


class Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """Base of all records; unknown keys are ignored."""


# Activation


class Activation(Record, kw_only=True):
    """Answer of /Plugin.Activate: the kinds of plugin that this one is."""

    implements: list[str] | None = None


class Failure(Record, kw_only=True, omit_defaults=True):
    """The error in an answer: network and volume drivers say `Err`, IPAM drivers `Error`; we read both."""

    err: str | None = ""
    error: str | None = ""


# NetworkDriver


class NetworkCapabilities(Record, kw_only=True):
    """Scope and connectivity scope are "local" or "global"; the second "" means the same as the first."""

    scope: str | None = ""
    connectivity_scope: str | None = ""
    gw_alloc_checker: bool | None = False


class GatewayCheck(Record, kw_only=True):
    """Body of NetworkDriver.GwAllocCheck: the options that CreateNetwork will have."""

    options: dict[str, Any] | None = None


class GatewayChecked(Record, kw_only=True):
    """Which families need no gateway from IPAM where the user gave none."""

    skip_ipv4: bool | None = False
    skip_ipv6: bool | None = False


class PoolData(Record, kw_only=True, omit_defaults=True):
    """A subnet as allocated: `pool` CIDR text, `gateway` and auxiliary addresses with prefix length."""

    address_space: str | None = ""
    pool: str | None = ""
    gateway: str | None = ""
    aux_addresses: dict[str, str] | None = None


class CreateNetwork(Record, kw_only=True):
    network_id: str | None = ""
    options: dict[str, Any] | None = None
    ipv4_data: list[PoolData] | None = None
    ipv6_data: list[PoolData] | None = None


class NetworkRef(Record, kw_only=True):
    """Body of NetworkDriver.DeleteNetwork and FreeNetwork."""

    network_id: str | None = ""


class AllocateNetwork(Record, kw_only=True):
    """Swarm's managers only; its options are texts."""

    network_id: str | None = ""
    options: dict[str, str] | None = None
    ipv4_data: list[PoolData] | None = None
    ipv6_data: list[PoolData] | None = None


class Interface(Record, kw_only=True):
    """Addresses are CIDR text; "" where nothing is set (request) or nothing is added to it (answer)."""

    address: str | None = ""
    address_ipv6: str | None = ""
    mac_address: str | None = ""


class CreateEndpoint(Record, kw_only=True):
    network_id: str | None = ""
    endpoint_id: str | None = ""
    interface: Interface | None = None
    options: dict[str, Any] | None = None


class EndpointCreated(Record, kw_only=True):
    """Only what the caller did not give may be answered: dockerd refuses a repetition, even of the same value."""

    interface: Interface | None = None


class EndpointRef(Record, kw_only=True):
    """Body of DeleteEndpoint, Leave, EndpointOperInfo and RevokeExternalConnectivity."""

    network_id: str | None = ""
    endpoint_id: str | None = ""


class OperInfo(Record, kw_only=True):
    value: dict[str, Any] | None = None


class PortBinding(Record, kw_only=True):
    """An item of `Options[PORT_MAP]`: one container port; host ports HostPort..HostPortEnd, 0 for any."""

    proto: int = 6
    ip: str | None = ""
    port: int = 0
    host_ip: str | None = ""
    host_port: int = 0
    host_port_end: int = 0


class ExposedPort(Record, kw_only=True):
    """An item of `Options[EXPOSED_PORTS]`."""

    proto: int = 6
    port: int = 0


class Join(Record, kw_only=True):
    """Body of NetworkDriver.Join; `sandbox_key` is the path of the namespace's file, which may not exist yet."""

    network_id: str | None = ""
    endpoint_id: str | None = ""
    sandbox_key: str | None = ""
    options: dict[str, Any] | None = None


class InterfaceName(Record, kw_only=True):
    """The link `src_name` of the host's namespace becomes `dst_prefix` with a number; "" where there is none."""

    src_name: str | None = ""
    dst_prefix: str | None = ""
    dst_name: str | None = ""


class StaticRoute(Record, kw_only=True):
    """`route_type` 0: by a next hop; 1: on the link."""

    destination: str | None = ""
    route_type: int = 0
    next_hop: str | None = ""


class Joined(Record, kw_only=True):
    """Gateways are bare addresses, "" for none. Without any, dockerd adds a way out of its own (docker_gwbridge)
    unless `disable_gateway_service` is set."""

    interface_name: InterfaceName | None = None
    gateway: str | None = ""
    gateway_ipv6: str | None = ""
    static_routes: list[StaticRoute] | None = None
    disable_gateway_service: bool | None = False


class ProgramExternalConnectivity(Record, kw_only=True):
    """The endpoint has become its sandbox's way out; ports are in its options, as in Join's."""

    network_id: str | None = ""
    endpoint_id: str | None = ""
    options: dict[str, Any] | None = None


class Discovery(Record, kw_only=True):
    """Body of DiscoverNew and DiscoverDelete: a node of a swarm."""

    discovery_type: int = 0
    discovery_data: Any = None


# IpamDriver


class IpamCapabilities(Record, kw_only=True):
    requires_mac_address: bool | None = msgspec.field(name="RequiresMACAddress", default=False)
    requires_request_replay: bool | None = False


class AddressSpaces(Record, kw_only=True):
    local_default_address_space: str | None = ""
    global_default_address_space: str | None = ""


class RequestPool(Record, kw_only=True):
    """`pool` and `sub_pool` are CIDR text, "" where the choice is the plugin's."""

    address_space: str | None = ""
    pool: str | None = ""
    sub_pool: str | None = ""
    options: dict[str, str] | None = None
    v6: bool | None = False


class PoolRequested(Record, kw_only=True):
    pool_id: str | None = ""
    pool: str | None = ""
    data: dict[str, str] | None = None


class ReleasePool(Record, kw_only=True):
    pool_id: str | None = ""


class RequestAddress(Record, kw_only=True):
    """`address` is bare text, "" where the choice is the plugin's."""

    pool_id: str | None = ""
    address: str | None = ""
    options: dict[str, str] | None = None


class AddressRequested(Record, kw_only=True):
    """`address` is CIDR text."""

    address: str | None = ""
    data: dict[str, str] | None = None


class ReleaseAddress(Record, kw_only=True):
    pool_id: str | None = ""
    address: str | None = ""
