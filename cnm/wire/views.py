"""From the nouns to what a client is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cnm.endpoint import Endpoint, PortMapping
from cnm.events import Event
from cnm.network import NameRecord, Network, Pool
from cnm.sandbox import Sandbox
from cnm.wire import control, engine

_SATURATED = 2**64 - 1


def network(
    noun: Network,
    containers: Mapping[str, engine.EndpointResource],
    *,
    modern: bool = True,
    status: engine.NetworkStatus | None = None,
    hosts: Iterable[tuple[str, str]] | None = None,
) -> engine.Network:
    """A network as Docker shows it; `modern` false: as it did before EnableIPv4, with [] for no subnets, not null.

    `hosts` are (name, address) of those in a global one, None where that is not known here.
    """
    return engine.Network(
        name=noun.name,
        id=noun.id,
        created=noun.created,
        scope=noun.scope,
        driver=noun.driver,
        enable_ipv4=noun.enable_ipv4 if modern else msgspec.UNSET,
        enable_ipv6=noun.enable_ipv6,
        ipam=_ipam(noun, modern),
        internal=noun.internal,
        attachable=noun.attachable,
        containers=dict(containers),
        options=noun.options,
        labels=noun.labels,
        peers=msgspec.UNSET
        if hosts is None
        else [engine.PeerInfo(name=name, ip=address) for name, address in hosts],
        status=status or msgspec.UNSET,
    )


def containers(
    endpoints: Iterable[Endpoint], sandboxes: Mapping[str, Sandbox]
) -> dict[str, engine.EndpointResource]:
    """A network's `Containers`: by sandbox id, or `ep-<id>` for an endpoint that no sandbox holds."""
    return dict(_container(endpoint, sandboxes.get(endpoint.sandbox_id)) for endpoint in endpoints)


def network_status(pools: Mapping[str, tuple[int, int]]) -> engine.NetworkStatus:
    """Use of the pools: for each subnet how many addresses are in use and how many can be given out."""
    return engine.NetworkStatus(
        ipam=engine.IpamStatus(
            subnets={
                subnet: engine.SubnetStatus(
                    ips_in_use=min(in_use, _SATURATED), dynamic_ips_available=min(available, _SATURATED)
                )
                for subnet, (in_use, available) in pools.items()
            }
        )
    )


def endpoint(
    noun: Endpoint, network_name: str, sandbox_name: str, gateways: tuple[str, str], ports: list[control.Port]
) -> control.Endpoint:
    """An endpoint with the names of what it belongs to."""
    return control.Endpoint(
        id=noun.id,
        name=noun.name,
        network=network_name,
        network_id=noun.network_id,
        sandbox=sandbox_name,
        sandbox_id=noun.sandbox_id,
        state=noun.state.value,
        if_name=noun.ifname,
        mac_address=noun.mac,
        ipv4_address=noun.ipv4,
        ipv6_address=noun.ipv6,
        gateway=gateways[0],
        ipv6_gateway=gateways[1],
        aliases=list(noun.aliases),
        driver_opts=noun.options,
        gw_priority=noun.gw_priority,
        ports=ports,
    )


def port(mapping: PortMapping, note: str) -> control.Port:
    """A published port; `note` says why the client's source is lost, "" where it is kept."""
    return control.Port(
        protocol=mapping.protocol.value,
        container_port=mapping.container_port,
        host_port=mapping.host_port,
        host_ip=mapping.host_address,
        count=mapping.count,
        relay=bool(note),
        note=note,
    )


def sandbox(
    noun: Sandbox, gateway: str, endpoints: list[control.Endpoint], files: tuple[str, str, str]
) -> control.Sandbox:
    """A sandbox; `gateway` is the id of the endpoint that its default route leaves by.

    `files` are the paths of its hosts, hostname and resolv.conf.
    """
    hosts_path, hostname_path, resolv_conf_path = files
    return control.Sandbox(
        id=noun.id,
        name=noun.name,
        netns_path=noun.netns,
        kind=noun.kind.value,
        created=noun.created,
        state=noun.state.value,
        labels=noun.labels,
        hostname=noun.hostname,
        dns=list(noun.resolution.servers),
        dns_search=list(noun.resolution.search),
        dns_options=list(noun.resolution.options),
        extra_hosts=[f"{host.name}:{host.address}" for host in noun.resolution.extra_hosts],
        hosts_path=hosts_path,
        hostname_path=hostname_path,
        resolv_conf_path=resolv_conf_path,
        gateway=gateway,
        endpoints=endpoints,
    )


def record(noun: NameRecord) -> control.NameRecord:
    """A name of a network."""
    return control.NameRecord(name=noun.name, type=noun.kind, value=noun.value)


def event(happened: Event) -> engine.Event:
    """An event as a line of GET /events."""
    return engine.Event(
        type=happened.type,
        action=happened.action,
        actor=engine.Actor(id=happened.id, attributes=happened.attributes),
        time=happened.time_nano // 10**9,
        time_nano=happened.time_nano,
    )


def _ipam(noun: Network, modern: bool) -> engine.Ipam:
    """What was allocated; before anything was (the default bridge), what was asked."""
    configs = [_pool(pool) for pool in noun.pools] or [
        engine.IpamConfig(
            subnet=asked.subnet,
            ip_range=asked.ip_range,
            gateway=asked.gateway,
            auxiliary_addresses=asked.aux_addresses,
        )
        for asked in noun.ipam_config
    ]
    return engine.Ipam(
        driver=noun.ipam_driver, options=noun.ipam_options or None, config=configs or (None if modern else [])
    )


def _pool(pool: Pool) -> engine.IpamConfig:
    return engine.IpamConfig(
        subnet=pool.subnet,
        ip_range=pool.ip_range,
        gateway=pool.gateway,
        auxiliary_addresses=pool.aux_addresses,
    )


def _container(endpoint: Endpoint, holder: Sandbox | None) -> tuple[str, engine.EndpointResource]:
    return (holder.id if holder else f"ep-{endpoint.id}"), engine.EndpointResource(
        name=holder.name if holder else endpoint.name,
        endpoint_id=endpoint.id,
        mac_address=endpoint.mac,
        ipv4_address=endpoint.ipv4,
        ipv6_address=endpoint.ipv6,
    )
