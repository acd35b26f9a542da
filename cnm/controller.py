"""The verbs of the container network model, with the locks each one needs; the only place that orders work.

References are full ids, names or id prefixes; an endpoint is also `NETWORK/NAME`. Every verb happens whole or not at
all, and raises an error of `cnm.errors` that names the object and the remedy.
"""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cnm import clustered, ipam, overview, own_node, peering, probe, stale, wanted
from cnm.cluster.etcd.contract import Etcd
from cnm.cluster.volumes import SharedVolumes
from cnm.cluster_health import ClusterHealth, Figures
from cnm.dockerd_verbs import DockerdVerbs
from cnm.doctor import Doctor
from cnm.egress import Egress
from cnm.endpoint import Endpoint, EndpointRequest, PortMapping, PortRequest
from cnm.endpoint_verbs import EndpointVerbs
from cnm.errors import Conflict, Forbidden, NotFound
from cnm.events import Event
from cnm.gateway import next_hop
from cnm.hearing import Hearing
from cnm.kernel.state import Finding
from cnm.model import SHORT
from cnm.network import NameRecord, Network, NetworkRequest, Owner
from cnm.network_verbs import NetworkVerbs
from cnm.record_verbs import RecordVerbs
from cnm.recovery import Recovery
from cnm.relaying import relay_reason
from cnm.resources import Resources
from cnm.sandbox import NOTHING_ASKED, Resolution, Sandbox, SandboxKind
from cnm.sandbox_verbs import SandboxVerbs
from cnm.wire.control import Status
from cnm.wire.overlay import NetworkPeers, NodePing

log = logging.getLogger(__name__)


class Controller:
    """Thread-safe. `start` comes before any verb."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources
        self._networks = NetworkVerbs(resources)
        self._sandboxes = SandboxVerbs(resources)
        self._endpoints = EndpointVerbs(resources)
        self._egress = Egress(resources, self._networks, self._endpoints)
        self._records = RecordVerbs(resources)
        self.hearing = Hearing(resources)
        """What other hosts of the cluster do."""
        self.health = ClusterHealth(resources, self.hearing)
        self._doctor = Doctor(resources, self._sandboxes)
        self.dockerd = DockerdVerbs(resources, self._networks, self._endpoints)
        """What dockerd asks for by its own ids; the other verbs leave its networks alone."""

    def enter_cluster(self, etcd: Etcd, name: str, address: str, *, member: bool) -> None:
        """This host is in its cluster (again), as node `name` whose tunnels end at `address`."""
        self.hearing.start()
        own_node.enter(self._r, etcd, name, address, member=member)
        self.health.start()
        self._r.encryption.start()

    def pause_cluster(self) -> None:
        """Nothing of the cluster is followed, or told, until this host enters it again."""
        self._r.cluster.end()

    def empty_cluster(self, force: bool) -> None:
        """Raises Forbidden where this host has endpoints in networks of its cluster; with `force` they go."""
        if not force:
            clustered.check_leaving(self._r)
            return
        for endpoint in clustered.endpoints_here(self._r):
            log.warning("endpoint %s goes, since this host leaves its cluster", endpoint.name)
            if self._r.model.network(endpoint.network_id).owner is Owner.DOCKERD:
                self.dockerd.discard([endpoint.id])
            else:
                self.delete_endpoint(endpoint.id, force=bool(endpoint.sandbox_id))

    def close_cluster(self) -> None:
        """The daemon ends; the cluster knows this host as long as its lease runs."""
        self.health.close()
        self._r.encryption.close()
        self._r.cluster.end()
        self.hearing.close()

    def left_cluster(self) -> None:
        """This host is in no cluster any more."""
        self._r.cluster.end(leave=True)  # what follows it waits for verbs
        with self._r.locks.verbs.exclusive():
            probe.take_down(self._r)
            own_node.forget(self._r)
            self._r.encryption.forget()
            self.hearing.forget()
            clustered.forget_all(self._r)
            self.health.forget()
            self._r.refresh_facts()

    def start(self) -> None:
        """Make the kernel agree with the store."""
        own_node.recall(self._r)
        Recovery(self._r, self._sandboxes, self._doctor).run()
        self.dockerd.look_who_asks()
        self._egress.resume()

    # Networks

    def networks(self) -> list[Network]:
        return self._r.model.networks()

    def network(self, ref: str) -> Network:
        return self._r.model.network(ref)

    def create_network(self, request: NetworkRequest) -> Network:
        with self._r.locks.verbs.shared():
            return self._networks.create(request)

    def delete_network(self, ref: str) -> None:
        with self._r.locks.verbs.shared():
            network = self._r.model.network(ref)
            if network.owner is Owner.DOCKERD:
                raise Forbidden(
                    f"network {network.name} is dockerd's: docker network rm {network.id[:SHORT]}"
                )
            self._networks.delete(network.id)

    def prune_networks(self, keep: Callable[[Network], bool]) -> list[str]:
        with self._r.locks.verbs.shared():
            return self._networks.prune(keep)

    def pool_status(self, network: Network) -> dict[str, tuple[int, int]]:
        """By subnet: addresses in use, and addresses that can still be given out unasked."""
        statuses = ipam.network_status(self._r.ipam_of(network), network)
        return {subnet: (s.ips_in_use, s.dynamic_ips_available) for subnet, s in statuses.items()}

    # Names

    def add_record(self, network_ref: str, name: str, value: str) -> NameRecord:
        """A name of the network for an address, or for another name."""
        with self._r.locks.verbs.shared():
            return self._records.add(network_ref, name, value)

    def remove_record(self, network_ref: str, name: str, value: str = "") -> None:
        with self._r.locks.verbs.shared():
            self._records.remove(network_ref, name, value)

    # Sandboxes

    def sandboxes(self) -> list[Sandbox]:
        return self._r.model.sandboxes()

    def sandbox(self, ref: str) -> Sandbox:
        return self._r.model.sandbox(ref)

    def create_sandbox(
        self,
        name: str,
        netns_path: str = "",
        labels: Mapping[str, str] | None = None,
        resolution: Resolution = NOTHING_ASKED,
        *,
        ident: str = "",
    ) -> Sandbox:
        """`ident` is its owner's choice, "" for one of ours."""
        with self._r.locks.verbs.shared():
            return self._sandboxes.create(name, netns_path, dict(labels or {}), resolution, ident)

    def rename_sandbox(self, ref: str, name: str) -> None:
        with self._r.locks.verbs.shared(), self._sandbox(ref) as sandbox:
            if sandbox.kind is SandboxKind.DOCKERD:
                raise Forbidden(f"sandbox {sandbox.name} is a container of dockerd's: docker rename it")
            self._sandboxes.rename(sandbox, name)

    def sandbox_files(self, sandbox: Sandbox) -> tuple[str, str, str]:
        """Paths of its hosts, hostname and resolv.conf, "" for a sandbox of dockerd's."""
        return self._r.files.paths(sandbox)

    def name_stats(self) -> Mapping[str, Any]:
        """The name server's counters (`cnm.resolver.stats`), none where it does not run."""
        return self._r.naming.stats()

    def delete_sandbox(self, ref: str, force: bool = False, wait: bool = False) -> None:
        with self._r.locks.verbs.shared(), self._sandbox(ref) as sandbox:
            if sandbox.kind is SandboxKind.DOCKERD:
                raise Forbidden(f"sandbox {sandbox.name} is a container of dockerd's: docker rm -f it")
            endpoints = self._r.model.endpoints_of_sandbox(sandbox.id)
            if endpoints and not force:
                networks = ", ".join(self._r.model.network(e.network_id).name for e in endpoints)
                raise Conflict(
                    f"sandbox {sandbox.name} is connected to {networks}: disconnect it first, or use force"
                )
            if endpoints:
                with self._sandboxes.emptied(sandbox):
                    for endpoint in endpoints:
                        with self._network_of(endpoint) as network:
                            self._endpoints.disconnect(network, endpoint, sandbox, wait=wait)
            self._sandboxes.delete(sandbox)

    # Endpoints

    def endpoints(self, network_ref: str = "", sandbox_ref: str = "") -> list[Endpoint]:
        model = self._r.model
        if sandbox_ref:
            found = model.endpoints_of_sandbox(model.sandbox(sandbox_ref).id)
        elif network_ref:
            return model.endpoints_of_network(model.network(network_ref).id)
        else:
            found = model.endpoints()
        if not network_ref:
            return found
        network_id = model.network(network_ref).id
        return [endpoint for endpoint in found if endpoint.network_id == network_id]

    def endpoint(self, ref: str) -> Endpoint:
        return self._r.model.endpoint(ref)

    def create_endpoint(self, network_ref: str, request: EndpointRequest) -> Endpoint:
        self._endpoints.check(self._r.model.network(network_ref), request)
        with self._r.locks.verbs.shared(), self._network(network_ref) as network:
            return self._endpoints.create(network, request)

    def delete_endpoint(self, ref: str, force: bool = False) -> None:
        with self._r.locks.verbs.shared(), self._endpoint(ref) as (endpoint, sandbox, network):
            _check_ours(network, _DISCONNECT)
            if force and sandbox is not None:
                self._endpoints.disconnect(network, endpoint, sandbox)
            else:
                self._endpoints.delete(network, endpoint)
        if sandbox is not None:
            self._follow_departure(sandbox)

    def join(self, endpoint_ref: str, sandbox_ref: str) -> Endpoint:
        with self._r.locks.verbs.shared(), self._sandbox(sandbox_ref) as sandbox:
            endpoint = self._r.model.endpoint(endpoint_ref)
            with self._network_of(endpoint) as network:
                _check_ours(network)
                joined = self._endpoints.join(network, self._r.model.endpoint(endpoint.id), sandbox)
            try:
                self._egress.follow(sandbox)
            except BaseException:
                with self._network_of(joined) as network:
                    self._endpoints.leave(network, joined, sandbox)
                raise
            return joined

    def leave(self, endpoint_ref: str, wait: bool = False) -> None:
        with self._r.locks.verbs.shared(), self._endpoint(endpoint_ref) as (endpoint, sandbox, network):
            _check_ours(network, _DISCONNECT)
            if sandbox is None:
                raise Conflict(f"endpoint {network.name}/{endpoint.name} is in no sandbox: nothing to leave")
            self._endpoints.leave(network, endpoint, sandbox, wait=wait)
        self._follow_departure(sandbox)

    def connect(self, network_ref: str, sandbox_ref: str, request: EndpointRequest) -> Endpoint:
        """Create an endpoint and join it, atomically."""
        known = self._r.model.network(network_ref)
        request, ports = self._egress.apart(known, request)
        self._endpoints.check(known, request, self._r.model.sandbox(sandbox_ref))
        with self._r.locks.verbs.shared(), self._sandbox(sandbox_ref) as sandbox:
            with self._network(network_ref) as network:
                joined = self._endpoints.connect(network, sandbox, request)
            try:
                self._egress.follow(sandbox, ports)
            except BaseException:
                with self._network_of(joined) as network:
                    self._endpoints.disconnect(network, joined, sandbox)
                self._egress.follow_departure(sandbox)
                raise
            return joined

    def disconnect(self, network_ref: str, sandbox_ref: str, force: bool = False, wait: bool = False) -> None:
        """Leave and delete the endpoint; with `force` a sandbox that is not connected is no error."""
        with self._r.locks.verbs.shared():
            network = self._r.model.network(network_ref)
            _check_ours(network, _DISCONNECT)
            with self._sandbox(sandbox_ref) as sandbox:
                inside = self._r.model.endpoints_of_sandbox(sandbox.id)
                found = [endpoint for endpoint in inside if endpoint.network_id == network.id]
                if not found and not force:
                    raise NotFound(f"sandbox {sandbox.name} is not connected to network {network.name}")
                for endpoint in found:
                    with self._r.locks.network(network.id).shared():
                        self._endpoints.disconnect(network, endpoint, sandbox, wait=wait)
                self._egress.follow_departure(sandbox)

    def _follow_departure(self, sandbox: Sandbox) -> None:
        """What follows once an endpoint has left; whoever deleted the sandbox meanwhile has done it all."""
        with (
            contextlib.suppress(NotFound),
            self._r.locks.verbs.shared(),
            self._sandbox(sandbox.id) as remaining,
        ):
            self._egress.follow_departure(remaining)

    def publish(self, endpoint_ref: str, ports: Sequence[PortRequest]) -> tuple[PortMapping, ...]:
        with self._r.locks.verbs.shared(), self._endpoint(endpoint_ref) as (endpoint, _sandbox, network):
            _check_ours(network, _PUBLISH)
            return self._endpoints.publish(network, endpoint, ports)

    def unpublish(self, endpoint_ref: str, ports: Sequence[PortRequest]) -> None:
        with self._r.locks.verbs.shared(), self._endpoint(endpoint_ref) as (endpoint, _sandbox, network):
            _check_ours(network, _PUBLISH)
            self._endpoints.unpublish(network, endpoint, ports)

    def gateways(self, endpoint: Endpoint) -> tuple[str, str]:
        """The next hops that the endpoint's network offers, (IPv4, IPv6), "" for none and for a route on the link."""
        network = self._r.model.network(endpoint.network_id)
        ipv4, ipv6 = self._r.driver_of(network).gateways(network, endpoint)
        return next_hop(ipv4), next_hop(ipv6)

    def gateway_endpoint(self, sandbox_id: str) -> str:
        """Id of the endpoint that carries the sandbox's default route, "" where none does."""
        return wanted.gateways(self._r, wanted.joined_endpoints(self._r, sandbox_id)).endpoint_id

    def relayed(self, endpoint: Endpoint, port: PortMapping) -> str:
        """Why the client's source address is lost on a published port, "" where it is kept."""
        return relay_reason(endpoint, port, self._r.facts)

    # The whole

    def doctor(self) -> list[Finding]:
        with self._r.locks.verbs.exclusive():
            return self._doctor.examine()

    def repair(self) -> list[Finding]:
        """Of dockerd's endpoints, those whose container is gone are deleted instead."""
        self.dockerd.discard(stale.gone(self._r))
        with self._r.locks.verbs.exclusive():
            return self._doctor.repair()

    def status(self) -> Status:
        return overview.status(self._r, self.health.warnings())

    # The cluster

    def network_peers(self, ref: str, *, endpoints: bool) -> NetworkPeers:
        return peering.peers(self._r, self._r.model.network(ref), endpoints=endpoints)

    def network_hosts(self, network: Network) -> list[tuple[str, str]] | None:
        return peering.hosts(self._r, network)

    def ping_nodes(self, names: Sequence[str]) -> list[NodePing]:
        return self.health.ping(names)

    def last_pings(self) -> list[NodePing]:
        return self.health.latest()

    def cluster_warnings(self) -> list[str]:
        return list(self.health.network_warnings())

    def tunnels(self) -> Mapping[str, str]:
        return self._r.encryption.states()

    def rotate_keys(self) -> None:
        self._r.encryption.rotate()

    @property
    def shared_volumes(self) -> SharedVolumes:
        return self._r.cluster.volumes

    @property
    def node_name(self) -> str:
        return self._r.cluster.node_name

    def cluster_figures(self) -> Figures | None:
        return self.health.figures()

    # Drift

    def host_changed(self) -> bool:
        """Whether somebody threw a switch of the host that our networks depend on, or an interface came or went."""
        with self._r.locks.verbs.shared(), self._r.locks.host:
            before = self._r.facts
            own_node.refresh(self._r)
            self._r.refresh_facts()
            switched = (before.bridge_nf_ipv4, before.bridge_nf_ipv6) != (
                self._r.facts.bridge_nf_ipv4,
                self._r.facts.bridge_nf_ipv6,
            )
            moved = before.underlay != self._r.facts.underlay
            return switched or moved or self._r.wanted_host_state() != self._r.host_state

    def follow_host_files(self) -> None:
        """Somebody may have changed the host's resolv.conf or hosts: what sandboxes have of them follows."""
        if not self._r.files.host_changed():
            return
        for known in self._r.model.sandboxes():
            with (
                contextlib.suppress(NotFound),
                self._r.locks.verbs.shared(),
                self._sandbox(known.id) as sandbox,
            ):
                self._r.files.refresh(sandbox)

    def stale_endpoints(self) -> list[str]:
        """Ids of dockerd's endpoints that no container is behind now."""
        return stale.stale(self._r)

    def past_events(self, since: int = 0) -> list[Event]:
        return self._r.events.past(since)

    def subscribe(self) -> contextlib.AbstractContextManager[queue.Queue[Event]]:
        return self._r.events.subscribe()

    # Locks, in the order of cnm.locks

    @contextlib.contextmanager
    def _sandbox(self, ref: str) -> Iterator[Sandbox]:
        """The sandbox under its lock, looked up again once it is held."""
        ident = self._r.model.sandbox(ref).id
        with self._r.locks.sandbox(ident):
            yield self._r.model.sandbox(ident)

    @contextlib.contextmanager
    def _network(self, ref: str) -> Iterator[Network]:
        """The network under its lock, shared; made real if it is a predefined one at its first use."""
        network = self._networks.materialise(ref)
        _check_ours(network)
        with self._r.locks.network(network.id).shared():
            yield self._r.model.network(network.id)

    @contextlib.contextmanager
    def _network_of(self, endpoint: Endpoint) -> Iterator[Network]:
        with self._r.locks.network(endpoint.network_id).shared():
            yield self._r.model.network(endpoint.network_id)

    @contextlib.contextmanager
    def _endpoint(self, ref: str) -> Iterator[tuple[Endpoint, Sandbox | None, Network]]:
        """The endpoint, its sandbox if it is joined, and its network, under their locks."""
        endpoint = self._r.model.endpoint(ref)
        sandbox_lock = (
            self._r.locks.sandbox(endpoint.sandbox_id) if endpoint.sandbox_id else contextlib.nullcontext()
        )
        with sandbox_lock, self._network_of(endpoint) as network:
            again = self._r.model.endpoint(endpoint.id)
            if again.sandbox_id != endpoint.sandbox_id:
                raise Conflict(
                    f"endpoint {network.name}/{endpoint.name} was joined or left meanwhile: try again"
                )
            yield again, self._r.model.sandbox(again.sandbox_id) if again.sandbox_id else None, network


_CONNECT = "connect containers with docker network connect"
_DISCONNECT = "disconnect containers with docker network disconnect"
_PUBLISH = "publish ports with docker run -p"


def _check_ours(network: Network, remedy: str = _CONNECT) -> None:
    """dockerd gives out the addresses of its networks and knows who is in them: nobody else can change that."""
    if network.owner is Owner.DOCKERD:
        raise Forbidden(f"network {network.name} is dockerd's: {remedy}")
