"""What a remote driver's plugin is told, as dockerd would: networks and endpoints as records of the protocol."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cnm.endpoint import Endpoint, PortRequest
from cnm.network import Network, Pool
from cnm.sandbox import Sandbox
from cnm.wire import plugin as wire

_NUMBERS = {name: number for number, name in wire.PROTOCOLS.items()}


def create_network(network: Network, address_space: str) -> wire.CreateNetwork:
    return wire.CreateNetwork(
        network_id=network.id,
        options=network_options(network),
        ipv4_data=[_pool(pool, address_space) for pool in network.pools_v4()],
        ipv6_data=[_pool(pool, address_space) for pool in network.pools_v6()],
    )


def network_options(network: Network) -> dict[str, Any]:
    options: dict[str, Any] = {
        wire.ENABLE_IPV4: network.enable_ipv4,
        wire.ENABLE_IPV6: network.enable_ipv6,
        wire.GENERIC: network.options,
    }
    if network.internal:
        options[wire.INTERNAL] = True
    return options


def _pool(pool: Pool, address_space: str) -> wire.PoolData:
    length = pool.subnet.partition("/")[2]
    return wire.PoolData(
        address_space=address_space,
        pool=pool.subnet,
        gateway=f"{pool.gateway}/{length}" if pool.gateway else "",
        aux_addresses={name: f"{address}/{length}" for name, address in pool.aux_addresses.items()} or None,
    )


def create_endpoint(network: Network, endpoint: Endpoint) -> wire.CreateEndpoint:
    """The user's own options stand beside ours; a MAC that the user gave is there twice, as text and in base64."""
    options: dict[str, Any] = {**endpoint.options, **_ports(network, endpoint)}
    if endpoint.mac_given:
        raw = bytes.fromhex(endpoint.mac.replace(":", ""))
        options[wire.MAC_ADDRESS] = base64.b64encode(raw).decode()
    return wire.CreateEndpoint(
        network_id=network.id,
        endpoint_id=endpoint.id,
        interface=wire.Interface(address=endpoint.ipv4, address_ipv6=endpoint.ipv6, mac_address=endpoint.mac),
        options=options,
    )


def join(network: Network, endpoint: Endpoint, sandbox: Sandbox) -> wire.Join:
    return wire.Join(
        network_id=network.id,
        endpoint_id=endpoint.id,
        sandbox_key=sandbox.netns,
        options=_ports(network, endpoint),
    )


def program(network: Network, endpoint: Endpoint) -> wire.ProgramExternalConnectivity:
    return wire.ProgramExternalConnectivity(
        network_id=network.id, endpoint_id=endpoint.id, options=_ports(network, endpoint)
    )


def _ports(network: Network, endpoint: Endpoint) -> dict[str, Any]:
    """The ports asked for, each by itself as dockerd lists them; none on an internal network."""
    bindings = [] if network.internal else list(_bindings(endpoint.port_requests))
    exposed = {(b.proto, b.port): wire.ExposedPort(proto=b.proto, port=b.port) for b in bindings}
    return {
        wire.PORT_MAP: [_as_object(binding) for binding in bindings],
        wire.EXPOSED_PORTS: [_as_object(port) for port in exposed.values()],
    }


def _bindings(requests: Sequence[PortRequest]) -> Iterator[wire.PortBinding]:
    for request in requests:
        last = request.container_port_end or request.container_port
        for offset, port in enumerate(range(request.container_port, last + 1)):
            host_port = request.host_port + offset if request.host_port else 0
            is_range = last > request.container_port
            yield wire.PortBinding(
                proto=_NUMBERS[request.protocol.value],
                port=port,
                host_ip=request.host_address,
                host_port=host_port,
                host_port_end=host_port if is_range else request.host_port_end or host_port,
            )


def _as_object(record: msgspec.Struct) -> Any:
    return msgspec.to_builtins(record)
