"""What the control API needs of the model: the verbs, by reference, and what to tell of their results."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cnm.cluster.volumes import SharedVolumes
from cnm.cluster_health import Figures
from cnm.endpoint import Endpoint, EndpointRequest, PortMapping, PortRequest
from cnm.events import Event
from cnm.kernel.state import Finding
from cnm.network import NameRecord, Network, NetworkRequest
from cnm.sandbox import NOTHING_ASKED, Resolution, Sandbox
from cnm.wire.cluster import (
    ClusterInit,
    ClusterInitialised,
    ClusterJoin,
    ClusterStatus,
    KnownToken,
    SnapshotSaved,
    Token,
)
from cnm.wire.control import Status
from cnm.wire.overlay import NetworkPeers, NodePing


class Backend(Protocol):
    """The controller. References are ids, names or id prefixes; an endpoint's also NETWORK/NAME.

    Every method is safe to call from many threads and raises errors of `cnm.errors`.
    """

    def networks(self) -> list[Network]: ...

    def network(self, ref: str) -> Network: ...

    def create_network(self, request: NetworkRequest) -> Network: ...

    def delete_network(self, ref: str) -> None: ...

    def prune_networks(self, keep: Callable[[Network], bool]) -> list[str]:
        """Delete the unused networks that `keep` does not hold, never predefined ones; the names deleted."""

    def pool_status(self, network: Network) -> Mapping[str, tuple[int, int]]:
        """For each subnet, how many addresses are in use and how many can still be given out."""

    def add_record(self, network_ref: str, name: str, value: str) -> NameRecord: ...

    def remove_record(self, network_ref: str, name: str, value: str = "") -> None: ...

    def sandboxes(self) -> list[Sandbox]: ...

    def sandbox(self, ref: str) -> Sandbox: ...

    def create_sandbox(
        self,
        name: str,
        netns_path: str = "",
        labels: Mapping[str, str] | None = None,
        resolution: Resolution = NOTHING_ASKED,
        *,
        ident: str = "",
    ) -> Sandbox: ...

    def rename_sandbox(self, ref: str, name: str) -> None: ...

    def name_stats(self) -> Mapping[str, Any]:
        """The name server's counters (`cnm.resolver.stats`), none where it does not run."""

    def sandbox_files(self, sandbox: Sandbox) -> tuple[str, str, str]:
        """Paths of its hosts, hostname and resolv.conf, "" for a sandbox of dockerd's."""

    def delete_sandbox(self, ref: str, force: bool = False, wait: bool = False) -> None: ...

    def endpoints(self, network_ref: str = "", sandbox_ref: str = "") -> list[Endpoint]: ...

    def endpoint(self, ref: str) -> Endpoint: ...

    def create_endpoint(self, network_ref: str, request: EndpointRequest) -> Endpoint: ...

    def delete_endpoint(self, ref: str, force: bool = False) -> None: ...

    def join(self, endpoint_ref: str, sandbox_ref: str) -> Endpoint: ...

    def leave(self, endpoint_ref: str, wait: bool = False) -> None: ...

    def connect(self, network_ref: str, sandbox_ref: str, request: EndpointRequest) -> Endpoint:
        """Create an endpoint and join it, or neither."""

    def disconnect(
        self, network_ref: str, sandbox_ref: str, force: bool = False, wait: bool = False
    ) -> None: ...

    def publish(self, endpoint_ref: str, ports: Sequence[PortRequest]) -> tuple[PortMapping, ...]: ...

    def unpublish(self, endpoint_ref: str, ports: Sequence[PortRequest]) -> None: ...

    def gateways(self, endpoint: Endpoint) -> tuple[str, str]:
        """The next hops (IPv4, IPv6) that the endpoint offers, "" where it offers none."""

    def gateway_endpoint(self, sandbox_id: str) -> str:
        """The id of the endpoint that the sandbox's default route leaves by, "" where there is none."""

    def relayed(self, endpoint: Endpoint, port: PortMapping) -> str:
        """Why the client's source address is lost on this port, "" where it is kept."""

    def past_events(self, since: int = 0) -> list[Event]:
        """What happened from `since` (nanoseconds since the epoch) on, as far as it is remembered."""

    def subscribe(self) -> AbstractContextManager[queue.Queue[Event]]:
        """A queue of what happens while the context lasts."""

    def doctor(self) -> list[Finding]: ...

    def repair(self) -> list[Finding]: ...

    def status(self) -> Status: ...

    def network_peers(self, ref: str, *, endpoints: bool) -> NetworkPeers:
        """The hosts in a network of the cluster, with their endpoints where these are asked for."""

    def network_hosts(self, network: Network) -> list[tuple[str, str]] | None:
        """(name, end of tunnels) of those in a network that this host takes part in; None for any other."""

    def ping_nodes(self, names: Sequence[str]) -> list[NodePing]: ...

    def last_pings(self) -> list[NodePing]: ...

    def cluster_warnings(self) -> list[str]:
        """What is wrong with the paths to other hosts, and with the cluster's networks here."""

    def tunnels(self) -> Mapping[str, str]:
        """By node: how this host's encrypted tunnel to it is, up or silent; none where there are no tunnels."""

    def rotate_keys(self) -> None:
        """Have all nodes replace their keys of encrypted networks; returns at once. Raises Conflict."""

    @property
    def shared_volumes(self) -> SharedVolumes:
        """Those that all hosts of the cluster reach."""

    @property
    def node_name(self) -> str:
        """This host's in its cluster, "" in none."""

    def cluster_figures(self) -> Figures | None:
        """For metrics; None where this host is in no cluster."""


class Cluster(Protocol):
    """This host's part in a cluster (`cnm.membership`); thread-safe, with errors of `cnm.errors`."""

    def status(self) -> ClusterStatus: ...

    def init(self, asked: ClusterInit) -> ClusterInitialised: ...

    def join(self, asked: ClusterJoin, progress: Callable[[str], object]) -> None: ...

    def leave(self, *, force: bool = False) -> None: ...

    def remove(self, name: str, *, force: bool = False) -> None: ...

    def token(self, seconds: int) -> Token: ...

    def tokens(self) -> list[KnownToken]: ...

    def remove_token(self, begin: str) -> None: ...

    def rotate(self, *, authority: bool = False) -> None: ...

    def snapshot(self, path: str) -> SnapshotSaved: ...

    def restore(self, path: str, *, force: bool = False) -> None: ...

    def recover(self, *, force: bool = False) -> None: ...
