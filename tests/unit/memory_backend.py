"""A backend of the control API that keeps everything in memory and touches no kernel."""

from __future__ import annotations

import ipaddress
import itertools
import queue
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from msgspec.structs import replace

from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.volumes import SharedVolumes
from cnm.cluster_health import Figures
from cnm.endpoint import Endpoint, EndpointRequest, EndpointState, PortMapping, PortRequest
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound
from cnm.events import Event, EventBus
from cnm.kernel import state
from cnm.model import Model, new_id
from cnm.network import PREDEFINED, NameRecord, Network, NetworkRequest, NetworkState, Pool
from cnm.sandbox import NOTHING_ASKED, Resolution, Sandbox, SandboxKind, SandboxState
from cnm.wire.control import Families, Neighbour, Status, Uplink
from cnm.wire.overlay import NetworkPeer, NetworkPeers, NodePing, PeerEndpoint

CREATED = "2026-01-02T03:04:05.678901234Z"


class MemoryBackend:
    """Satisfies `cnm.api.backend.Backend`; `found` is what doctor finds."""

    def __init__(self) -> None:
        self.model = Model()
        self.bus = EventBus()
        self.found: list[state.Finding] = []
        self.names: dict[str, Any] = {}
        """The name server's counters."""
        self.pings: list[NodePing] = []
        self.peers: list[NetworkPeer] = []
        self.peer_endpoints: list[PeerEndpoint] = []
        self.figures: Figures | None = None
        self.tunnel_states: dict[str, str] = {}
        self.rotations = 0
        etcd = MemoryEtcd(MemoryStore())
        self._volumes = SharedVolumes(lambda: etcd, lambda: self.node_name)
        self._subnets = itertools.count(18)
        self._hosts = itertools.count(2)
        self._host_ports = itertools.count(32768)
        for name in PREDEFINED:
            driver = "null" if name == "none" else name
            self.model.add_network(
                Network(id=new_id(), name=name, driver=driver, created=CREATED, state=NetworkState.ACTIVE)
            )

    def networks(self) -> list[Network]:
        return self.model.networks()

    def network(self, ref: str) -> Network:
        return self.model.network(ref)

    def create_network(self, request: NetworkRequest) -> Network:
        if request.name in PREDEFINED:
            raise Forbidden(f"operation is not permitted on predefined {request.name} network")
        subnet = ipaddress.ip_network(f"172.{next(self._subnets) % 256}.0.0/16")
        gateway = str(subnet[1])
        if request.ipam_config and request.ipam_config[0].subnet:
            try:
                subnet = ipaddress.ip_network(request.ipam_config[0].subnet)
            except ValueError:
                raise InvalidParameter(f"invalid subnet {request.ipam_config[0].subnet}") from None
            gateway = request.ipam_config[0].gateway or str(subnet[1 if subnet.num_addresses > 1 else 0])
        network = Network(
            id=new_id(),
            name=request.name,
            driver=request.driver,
            created=CREATED,
            state=NetworkState.ACTIVE,
            enable_ipv4=request.enable_ipv4 is not False,
            enable_ipv6=bool(request.enable_ipv6),
            internal=request.internal,
            attachable=request.attachable,
            ipam_options=request.ipam_options,
            ipam_config=request.ipam_config,
            pools=(Pool(pool_id=str(subnet), subnet=str(subnet), gateway=gateway),),
            options=request.options,
            labels=request.labels,
        )
        self.model.add_network(network)
        self.bus.publish("network", "create", network.id, name=network.name, type=network.driver)
        return network

    def delete_network(self, ref: str) -> None:
        network = self.model.network(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        held = self.model.endpoints_of_network(network.id)
        if held:
            raise Forbidden(f"network {network.name} has active endpoints: disconnect them first")
        self.model.drop(network)
        self.bus.publish("network", "destroy", network.id, name=network.name, type=network.driver)

    def prune_networks(self, keep: Callable[[Network], bool]) -> list[str]:
        unused = [
            network
            for network in self.model.networks()
            if not (network.predefined or keep(network) or self.model.endpoints_of_network(network.id))
        ]
        for network in unused:
            self.model.drop(network)
        return [network.name for network in unused]

    def pool_status(self, network: Network) -> Mapping[str, tuple[int, int]]:
        return {pool.subnet: (5, 2**70) for pool in network.pools}

    def add_record(self, network_ref: str, name: str, value: str) -> NameRecord:
        network = self.model.network(network_ref)
        record = NameRecord(name=name, kind="A", value=value)
        self.model.replace(msgspec.structs.replace(network, records=(*network.records, record)))
        return record

    def remove_record(self, network_ref: str, name: str, value: str = "") -> None:
        network = self.model.network(network_ref)
        kept = tuple(r for r in network.records if r.name != name or value not in ("", r.value))
        if kept == network.records:
            raise NotFound(f"network {network.name} has no record {name}")
        self.model.replace(msgspec.structs.replace(network, records=kept))

    def network_peers(self, ref: str, *, endpoints: bool) -> NetworkPeers:
        network = self.model.network(ref)
        return NetworkPeers(
            network=network.name,
            network_id=network.id,
            takes_part=True,
            peers=self.peers,
            endpoints=self.peer_endpoints if endpoints else None,
        )

    def network_hosts(self, network: Network) -> list[tuple[str, str]] | None:
        return [(each.name, each.address) for each in self.peers] if self.peers else None

    def ping_nodes(self, names: Sequence[str]) -> list[NodePing]:
        return [each for each in self.pings if not names or each.name in names]

    def last_pings(self) -> list[NodePing]:
        return self.pings

    def cluster_warnings(self) -> list[str]:
        return [each.detail for each in self.pings if each.detail]

    def tunnels(self) -> Mapping[str, str]:
        return self.tunnel_states

    def rotate_keys(self) -> None:
        self.rotations += 1

    @property
    def shared_volumes(self) -> SharedVolumes:
        return self._volumes

    @property
    def node_name(self) -> str:
        return "h1"

    def cluster_figures(self) -> Figures | None:
        return self.figures

    def sandboxes(self) -> list[Sandbox]:
        return self.model.sandboxes()

    def sandbox(self, ref: str) -> Sandbox:
        return self.model.sandbox(ref)

    def rename_sandbox(self, ref: str, name: str) -> None:
        self.model.rename(self.model.sandbox(ref), name)

    def create_sandbox(
        self,
        name: str,
        netns_path: str = "",
        labels: Mapping[str, str] | None = None,
        resolution: Resolution = NOTHING_ASKED,
        *,
        ident: str = "",
    ) -> Sandbox:
        ident = ident or new_id()
        sandbox = Sandbox(
            id=ident,
            name=name,
            kind=SandboxKind.GIVEN if netns_path else SandboxKind.OWN,
            netns=netns_path or f"/run/cnm/netns/{ident[:12]}",
            created=CREATED,
            state=SandboxState.ACTIVE,
            labels=dict(labels or {}),
            resolution=resolution,
        )
        self.model.add_sandbox(sandbox)
        self.bus.publish("sandbox", "create", ident, name=name)
        return sandbox

    def name_stats(self) -> Mapping[str, Any]:
        return self.names

    def sandbox_files(self, sandbox: Sandbox) -> tuple[str, str, str]:
        place = f"/var/lib/cnm/sandboxes/{sandbox.id}"
        return f"{place}/hosts", f"{place}/hostname", f"{place}/resolv.conf"

    def delete_sandbox(self, ref: str, force: bool = False, wait: bool = False) -> None:
        sandbox = self.model.sandbox(ref)
        held = self.model.endpoints_of_sandbox(sandbox.id)
        if held and not force:
            raise Conflict(f"sandbox {sandbox.name} is connected: disconnect it first, or use force")
        for endpoint in held:
            self.model.drop(endpoint)
        self.model.drop(sandbox)

    def endpoints(self, network_ref: str = "", sandbox_ref: str = "") -> list[Endpoint]:
        network_id = self.model.network(network_ref).id if network_ref else ""
        sandbox_id = self.model.sandbox(sandbox_ref).id if sandbox_ref else ""
        return [
            endpoint
            for endpoint in self.model.endpoints()
            if network_id in ("", endpoint.network_id) and sandbox_id in ("", endpoint.sandbox_id)
        ]

    def endpoint(self, ref: str) -> Endpoint:
        return self.model.endpoint(ref)

    def create_endpoint(self, network_ref: str, request: EndpointRequest) -> Endpoint:
        network = self.model.network(network_ref)
        ident = new_id()
        host = next(self._hosts)
        prefix = ipaddress.ip_network(network.pools[0].subnet) if network.pools else None
        address = request.ipv4 or (str(prefix[host % prefix.num_addresses]) if prefix else "")
        endpoint = Endpoint(
            id=ident,
            name=request.name or f"ep-{ident[:12]}",
            network_id=network.id,
            mac=request.mac or f"02:42:ac:12:{host >> 8 & 255:02x}:{host & 255:02x}",
            ipv4=f"{address}/{prefix.prefixlen}" if prefix else "",
            ifname=request.ifname,
            aliases=request.aliases,
            options=request.options,
            gw_priority=request.gw_priority,
            ports=tuple(self._mapping(port) for port in request.ports),
        )
        self.model.add_endpoint(endpoint)
        return endpoint

    def join(self, endpoint_ref: str, sandbox_ref: str) -> Endpoint:
        endpoint, sandbox = self.model.endpoint(endpoint_ref), self.model.sandbox(sandbox_ref)
        if endpoint.sandbox_id:
            raise Forbidden(f"endpoint {endpoint.name} is joined already: leave first")
        joined = replace(
            endpoint,
            sandbox_id=sandbox.id,
            state=EndpointState.JOINED,
            ifname=endpoint.ifname or f"eth{len(self.model.endpoints_of_sandbox(sandbox.id))}",
        )
        self.model.replace(joined)
        network = self.model.network(endpoint.network_id)
        self.bus.publish(
            "network", "connect", network.id, name=network.name, type=network.driver, container=sandbox.id
        )
        return joined

    def leave(self, endpoint_ref: str, wait: bool = False) -> None:
        endpoint = self.model.endpoint(endpoint_ref)
        if not endpoint.sandbox_id:
            raise Conflict(f"endpoint {endpoint.name} is in no sandbox: nothing to leave")
        self.model.replace(replace(endpoint, sandbox_id="", state=EndpointState.CREATED))

    def delete_endpoint(self, ref: str, force: bool = False) -> None:
        endpoint = self.model.endpoint(ref)
        if endpoint.sandbox_id and not force:
            raise Conflict(f"endpoint {endpoint.name} is joined: leave first, or use force")
        self.model.drop(endpoint)

    def connect(self, network_ref: str, sandbox_ref: str, request: EndpointRequest) -> Endpoint:
        sandbox, network = self.model.sandbox(sandbox_ref), self.model.network(network_ref)
        if self.endpoints(network.id, sandbox.id):
            raise Forbidden(f"endpoint with name {sandbox.name} already exists in network {network.name}")
        return self.join(self.create_endpoint(network_ref, request).id, sandbox.id)

    def disconnect(self, network_ref: str, sandbox_ref: str, force: bool = False, wait: bool = False) -> None:
        network, sandbox = self.model.network(network_ref), self.model.sandbox(sandbox_ref)
        for endpoint in self.endpoints(network.id, sandbox.id):
            self.model.drop(endpoint)
            return
        if not force:
            raise NotFound(f"sandbox {sandbox.name} is not connected to network {network.name}")

    def publish(self, endpoint_ref: str, ports: Sequence[PortRequest]) -> tuple[PortMapping, ...]:
        endpoint = self.model.endpoint(endpoint_ref)
        added = tuple(self._mapping(port) for port in ports)
        self.model.replace(replace(endpoint, ports=(*endpoint.ports, *added)))
        return added

    def unpublish(self, endpoint_ref: str, ports: Sequence[PortRequest]) -> None:
        endpoint = self.model.endpoint(endpoint_ref)
        gone = {(port.protocol, port.container_port) for port in ports}
        kept = tuple(p for p in endpoint.ports if (p.protocol, p.container_port) not in gone)
        if len(kept) == len(endpoint.ports):
            raise NotFound(f"endpoint {endpoint.name} does not publish these ports")
        self.model.replace(replace(endpoint, ports=kept))

    def gateways(self, endpoint: Endpoint) -> tuple[str, str]:
        pools = self.model.network(endpoint.network_id).pools
        return (pools[0].gateway if pools else ""), ""

    def gateway_endpoint(self, sandbox_id: str) -> str:
        held = self.model.endpoints_of_sandbox(sandbox_id)
        return held[0].id if held else ""

    def relayed(self, endpoint: Endpoint, port: PortMapping) -> str:
        return "through the relay: the client's source is lost" if port.host_address == "::1" else ""

    def past_events(self, since: int = 0) -> list[Event]:
        return self.bus.past(since)

    def subscribe(self) -> AbstractContextManager[queue.Queue[Event]]:
        return self.bus.subscribe()

    def doctor(self) -> list[state.Finding]:
        return list(self.found)

    def repair(self) -> list[state.Finding]:
        mended, self.found = self.found, []
        return mended

    def status(self) -> Status:
        return Status(
            version="0.1.0",
            networks=len(self.networks()),
            endpoints=len(self.endpoints()),
            sandboxes=len(self.sandboxes()),
            ports=sum(port.count for endpoint in self.endpoints() for port in endpoint.ports),
            bridge_netfilter=Families(ipv4=True, ipv6=False),
            forwarding=Families(ipv4=True, ipv6=True),
            uplink=Uplink(name="eth0", mtu=1500),
            neighbours=[Neighbour(name="docker", state="open", detail="DOCKER-USER of iptables-nft")],
            warnings=["bridge-nf-call-iptables is enabled"],
        )

    def _mapping(self, port: PortRequest) -> PortMapping:
        return PortMapping(
            protocol=port.protocol,
            container_port=port.container_port,
            host_port=port.host_port or next(self._host_ports),
            host_address=port.host_address,
            count=max(port.container_port_end - port.container_port, 0) + 1,
        )
