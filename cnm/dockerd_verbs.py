"""The verbs as dockerd drives them through its plugin protocol: by its own ids, repeated at will, in any order.

Networks, endpoints and sandboxes of dockerd's are nouns like ours, of another owner: pools and addresses are given,
default routes inside are dockerd's. What dockerd forgets, since it died or was not heard, is collected.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import msgspec

from cnm import handover, names, ports, segments, stale, stand_ins, wanted
from cnm.cluster.etcd.contract import Following
from cnm.drivers.overlay_options import STANDS_FOR, parse
from cnm.endpoint import Endpoint, EndpointRequest, EndpointState, PortRequest
from cnm.endpoint_verbs import EndpointVerbs
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.ipam import AddressInUse
from cnm.locks import Turns
from cnm.model import SHORT
from cnm.network import Network, NetworkRequest, NetworkState, Owner
from cnm.network_verbs import NetworkVerbs, now
from cnm.resolver.host_servers import HostServers
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind, SandboxState
from cnm.visitors import Visitors

log = logging.getLogger(__name__)

NO_STAND_IN = "create it with cnmctl network create -d overlay --docker NAME on any host of the cluster"
"""What to do instead of creating an overlay network by docker's commands."""
_HEARD_SECONDS = 2.0
"""For which a network of the cluster is waited for that was made on another host."""
_LOOK_SECONDS = 0.02
_UNNAMED = "docker-"
"""What the names of sandboxes and networks begin with as long as dockerd's own names are not known."""


class DockerdVerbs:
    """Takes its locks itself, in the order of `cnm.locks`. All references are Docker's full ids."""

    def __init__(self, resources: Resources, networks: NetworkVerbs, endpoints: EndpointVerbs) -> None:
        self._r = resources
        self._networks = networks
        self._endpoints = endpoints
        self._turns = Turns()
        self._visitors = Visitors(resources)

    # Networks

    def create_network(self, request: NetworkRequest) -> Network:
        """`request.id` is Docker's. The same request again is answered with what it made the first time.

        Raises Conflict where the id has another network.
        """
        request = self._standing_for(request)
        with self._turns.of(request.id), self._r.locks.verbs.shared():
            have = self._network(request.id)
            if have is None:
                return self._networks.create(request)
            if not _is_same(have, request):
                raise Conflict(f"network {request.id} exists already with other settings: delete it first")
            return have

    def _standing_for(self, request: NetworkRequest) -> NetworkRequest:
        """The request with the options of the cluster's network that it is to stand for, where its driver has such.

        Raises Forbidden for one that stands for none, Unavailable where the cluster's is not known here.
        """
        if not self._r.registry.get(request.driver).capabilities.clustered:
            return request
        shared = self._awaited(parse(request.options).stands_for)
        if extra := sorted(request.options.keys() - {STANDS_FOR}):
            raise InvalidParameter(
                f"network {shared.name} has its options in the cluster: leave {', '.join(extra)} out"
            )
        options = {**shared.options, **request.options}
        return msgspec.structs.replace(request, options=options, attachable=shared.attachable)

    def _awaited(self, ident: str) -> Network:
        """A network of the cluster that another host may have made a moment ago."""
        if not ident:
            raise Forbidden(NO_STAND_IN)
        deadline = time.monotonic() + _HEARD_SECONDS
        while (shared := stand_ins.original(self._r, ident)) is None:
            if not self._r.cluster.present or time.monotonic() > deadline:
                raise Unavailable(
                    f"network {ident[:SHORT]} of the cluster is not known on this host: see cnmctl network ls"
                )
            time.sleep(_LOOK_SECONDS)
        if not parse(shared.options).docker:
            raise Forbidden(f"network {shared.name} of the cluster is not Docker's: {NO_STAND_IN}")
        return shared

    def delete_network(self, network_id: str) -> None:
        """With whatever endpoints it still has: dockerd lets no network go that it knows to be used."""
        with self._turns.of(network_id), self._r.locks.verbs.shared():
            network = self._network(network_id)
            if network is None:
                return
            for endpoint in self._r.model.endpoints_of_network(network.id):
                log.warning("network %s goes with endpoint %s still in it", network.name, endpoint.name)
                self._discard(endpoint.id)
            self._networks.delete(network.id)

    # Endpoints

    def create_endpoint(self, network_id: str, request: EndpointRequest) -> Endpoint:
        """The same request again is answered with what it made the first time.

        Raises NotFound for an unknown network, AddressInUse where a container has one of its addresses, Conflict where
        the id has another endpoint.

        An endpoint with one of them that no container is behind was forgotten by dockerd: it goes.
        """
        with self._turns.of(request.id), self._r.locks.verbs.shared():
            network = self._known_network(network_id)
            have = self._endpoint(request.id)
            if have is not None:
                if not _is_same_endpoint(have, network, request):
                    raise Conflict(
                        f"endpoint {have.name} exists already with other settings: delete it first"
                    )
                return have
            self._make_way(network, request)
            with self._r.locks.network(network.id).shared():
                return self._endpoints.create(self._r.model.network(network.id), request)

    def _make_way(self, network: Network, request: EndpointRequest) -> None:
        holders = self._with_addresses_of(network, request)
        forgotten = stale.stale(self._r) if holders else ()
        for holder in holders:
            if holder.id not in forgotten:
                raise AddressInUse(
                    f"Address already in use: {holder.ipv4 or holder.ipv6} by endpoint {holder.name} on network "
                    f"{network.name}"
                )
            log.warning("dockerd gave the addresses of endpoint %s to another: it goes", holder.name)
            self._discard(holder.id)

    def _with_addresses_of(self, network: Network, request: EndpointRequest) -> list[Endpoint]:
        asked = {address for address in (request.ipv4, request.ipv6) if address}
        return [
            endpoint
            for endpoint in self._r.model.endpoints_of_network(network.id)
            if asked & {endpoint.ipv4.partition("/")[0], endpoint.ipv6.partition("/")[0]}
        ]

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Nothing for an unknown one. What dockerd brought back to the host of a moved link goes with it."""
        with self._turns.of(endpoint_id), self._r.locks.verbs.shared():
            self._discard(endpoint_id)

    def _discard(self, endpoint_id: str) -> None:
        """Out of its sandbox if need be, then out of the kernel, then out of the model: it can be asked for again."""
        self._depart(endpoint_id)
        endpoint = self._endpoint(endpoint_id)
        if endpoint is None:
            return
        with self._r.locks.network(endpoint.network_id).shared():
            network = self._r.model.network(endpoint.network_id)
            self._r.kernel.remove(wanted.left_behind(self._r, network, endpoint))
            self._endpoints.delete(network, endpoint)

    # Joining

    def join(
        self, network_id: str, endpoint_id: str, key: str, requests: Sequence[PortRequest], direct: bool
    ) -> Endpoint:
        """Into the sandbox of the key. `direct`: where the key is there, the link is made inside.

        The ports asked for count only where they need no host port (gateway mode routed); others are published when the
        endpoint becomes its sandbox's way out. The same join again is answered like the first. Raises NotFound.
        """
        ident = _sandbox_id(key)
        with self._turns.of(endpoint_id), self._r.locks.verbs.shared():
            endpoint = self._known_endpoint(network_id, endpoint_id)
            if endpoint.state is EndpointState.JOINED:
                if endpoint.sandbox_id == ident:
                    return endpoint
                self._depart(endpoint_id)
            with self._r.locks.sandbox(ident), self._r.locks.network(endpoint.network_id).shared():
                return self._join(endpoint_id, ident, key, requests, direct)

    def _join(
        self, endpoint_id: str, ident: str, key: str, requests: Sequence[PortRequest], direct: bool
    ) -> Endpoint:
        r = self._r
        endpoint = r.model.endpoint(endpoint_id)
        network = r.model.network(endpoint.network_id)
        unbound = self._without_host_ports(network, endpoint, requests)
        moved = not (direct and r.kernel.namespace_alive(key))
        try:
            sandbox = self._ensure_sandbox(ident, key)
            return self._endpoints.join(network, endpoint, sandbox, moved=moved, ports=unbound)
        except BaseException:
            self._drop_if_empty(ident)
            raise

    def _without_host_ports(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[PortRequest, ...]:
        if not requests or not self.publishes(network):
            return ()
        to_hold, _unbound = self._r.driver_of(network).bindings(network, endpoint, requests)
        return () if to_hold else tuple(requests)

    def _ensure_sandbox(self, ident: str, key: str) -> Sandbox:
        """Callers hold the sandbox's lock. It is stored with the first endpoint that has joined it."""
        with contextlib.suppress(NotFound):
            return self._r.model.sandbox(ident)
        sandbox = Sandbox(
            id=ident,
            name=_UNNAMED + os.path.basename(key)[:SHORT],
            kind=SandboxKind.DOCKERD,
            netns=key,
            created=now(),
            state=SandboxState.ACTIVE,
        )
        self._r.model.add_sandbox(sandbox)
        return sandbox

    def _drop_if_empty(self, ident: str) -> None:
        """Callers hold the sandbox's lock. A sandbox of dockerd's is there as long as an endpoint is in it.

        A record that cannot be deleted is no failure of whoever left: the next start deletes it.
        """
        if self._r.model.endpoints_of_sandbox(ident):
            return
        with contextlib.suppress(NotFound):
            sandbox = self._r.model.sandbox(ident)
            self._r.model.drop(sandbox)
            self._r.locks.forget(ident)
            try:
                self._r.store.commit(delete=[sandbox], durable=False)
            except CnmError as error:
                log.warning("the record of sandbox %s stays: %s", sandbox.name, error)

    def leave(self, endpoint_id: str) -> None:
        """Nothing for an unknown endpoint, or one that is in no sandbox."""
        with self._turns.of(endpoint_id), self._r.locks.verbs.shared():
            self._depart(endpoint_id)

    def _depart(self, endpoint_id: str) -> None:
        endpoint = self._endpoint(endpoint_id)
        if endpoint is None or endpoint.state is not EndpointState.JOINED:
            return
        ident = endpoint.sandbox_id
        with self._r.locks.sandbox(ident), self._r.locks.network(endpoint.network_id).shared():
            endpoint = self._r.model.endpoint(endpoint_id)
            if endpoint.state is EndpointState.JOINED:
                network = self._r.model.network(endpoint.network_id)
                self._endpoints.leave(network, endpoint, self._r.model.sandbox(ident))
            self._drop_if_empty(ident)
        self._visitors.left()

    # Ports

    def publish(self, network_id: str, endpoint_id: str, requests: Sequence[PortRequest]) -> None:
        """The endpoint is its sandbox's way out: exactly these ports are published, all or none. Raises NotFound."""
        with (
            self._turns.of(endpoint_id),
            self._r.locks.verbs.shared(),
            self._joined(network_id, endpoint_id) as (network, endpoint),
        ):
            if not self.publishes(network):
                if requests:
                    log.warning("network %s publishes no ports: those asked for are left out", network.name)
                return
            if endpoint.port_requests == tuple(requests):
                return
            if endpoint.ports:
                self._endpoints.unpublish(network, endpoint, ports.as_requests(endpoint.ports))
                endpoint = self._r.model.endpoint(endpoint_id)
            if requests:
                self._endpoints.publish(network, endpoint, requests)

    def unpublish(self, endpoint_id: str) -> None:
        """The endpoint is its sandbox's way out no more; ports that need no host port stay. Nothing for an unknown."""
        with self._turns.of(endpoint_id), self._r.locks.verbs.shared():
            known = self._endpoint(endpoint_id)
            if known is None or known.state is not EndpointState.JOINED:
                return
            with self._joined(known.network_id, endpoint_id) as (network, endpoint):
                if any(mapping.host_port for mapping in endpoint.ports):
                    self._endpoints.unpublish(network, endpoint, ports.as_requests(endpoint.ports))

    def publishes(self, network: Network) -> bool:
        return self._r.driver_of(network).capabilities.publishes_ports and not network.internal

    # What others ask about them

    def leads_out(self, endpoint: Endpoint) -> bool:
        """Whether dockerd is to make a way out of its own, since there is none through the network that has rules."""
        network = self._r.model.network(endpoint.network_id)
        return self._r.driver_of(network).capabilities.clustered and not network.internal

    def routes(self, endpoint: Endpoint) -> list[str]:
        """Destinations on the link, CIDR texts, beside the endpoint's own subnets; dockerd adds them to moved links."""
        network = self._r.model.network(endpoint.network_id)
        states = self._r.driver_of(network).join_state(network, endpoint, handover.NOWHERE, self._r.facts)
        inside = (state for state in states if state.namespace == handover.NOWHERE.netns)
        return [route.destination for state in inside for route in state.routes if not route.via]

    def gateways(self, endpoint: Endpoint) -> tuple[str, str]:
        """What the driver offers for the sandbox's default routes, (IPv4, IPv6): next hops, "" or ON_LINK."""
        network = self._r.model.network(endpoint.network_id)
        return self._r.driver_of(network).gateways(network, endpoint)

    def interface_prefix(self, endpoint: Endpoint) -> str:
        network = self._r.model.network(endpoint.network_id)
        return self._r.driver_of(network).interface_prefix(network)

    def wants_gateways(self, driver: str, options: dict[str, str], internal: bool) -> tuple[bool, bool]:
        """Whether a network of these options takes gateways from IPAM, (IPv4, IPv6)."""
        network = Network(
            id="",
            name="",
            driver=driver,
            created="",
            state=NetworkState.CREATING,
            options=options,
            internal=internal,
        )
        return self._r.driver_of(network).wants_gateways(network)

    def subnets_to_avoid(self) -> Sequence[str]:
        """CIDR texts that a subnet of our choice must not touch."""
        return self._networks.subnets_to_avoid()

    # Names, which the protocol does not tell

    def networks(self) -> list[Network]:
        return [network for network in self._r.model.networks() if network.owner is Owner.DOCKERD]

    def network(self, network_id: str) -> Network:
        """Raises NotFound."""
        return self._known_network(network_id)

    def has_unnamed(self, network: Network) -> bool:
        """Whether a container is in the network whose name is not known."""
        return any(
            e.sandbox_id and self._r.model.sandbox(e.sandbox_id).name.startswith(_UNNAMED)
            for e in self._r.model.endpoints_of_network(network.id)
        )

    def rename_network(self, network: Network, name: str) -> None:
        """Unless a network of ours is called so: then it keeps the name that it was given here."""
        if stand_ins.is_stand_in(network):
            name = f"{name}@docker"  # the cluster's network has the name itself
        with self._r.locks.verbs.shared(), self._r.locks.network(network.id).exclusive():
            self._rename(self._network(network.id), name)

    def rename_container(self, endpoint_id: str, name: str) -> None:
        """The sandbox that the endpoint is in; nothing for an unknown one, or where the name is taken."""
        endpoint = self._endpoint(endpoint_id)
        if endpoint is None or not endpoint.sandbox_id:
            return
        with (
            self._r.locks.verbs.shared(),
            self._r.locks.sandbox(endpoint.sandbox_id),
            contextlib.suppress(NotFound),
        ):
            self._rename(self._r.model.sandbox(endpoint.sandbox_id), name)

    def name_endpoint(self, endpoint_id: str, called: Sequence[str]) -> None:
        """What dockerd calls a container on the endpoint's network, the most important first; those who are in no
        sandbox, and unknown ones, are left out."""
        endpoint = self._endpoint(endpoint_id)
        if endpoint is None or not endpoint.sandbox_id:
            return
        with (
            self._turns.of(endpoint_id),
            self._r.locks.verbs.shared(),
            contextlib.suppress(NotFound, Conflict),
            self._joined(endpoint.network_id, endpoint_id) as (network, known),
        ):
            aliases = tuple(dict.fromkeys(name.lower() for name in called))
            if known.aliases == aliases:
                return
            named = msgspec.structs.replace(known, aliases=aliases)
            self._r.store.commit(put=[named], durable=False)
            self._r.model.replace(named)
            segments.renamed(self._r, network, named, self._r.model.sandbox(named.sandbox_id))

    def _rename(self, noun: Network | Sandbox | None, name: str) -> None:
        if noun is None or noun.name == name:
            return
        with contextlib.suppress(Conflict, InvalidParameter):
            names.check_network(name)
            self._r.store.commit(put=[self._r.model.rename(noun, name)], durable=False)

    # What dockerd is to have of the cluster

    def networks_to_show(self) -> list[Network]:
        """Networks of the cluster that the dockerd of every host has."""
        r = self._r
        known = [n for n in r.model.networks() if r.driver_of(n).capabilities.clustered]
        return [
            n
            for n in known
            if n.state is NetworkState.ACTIVE and not stand_ins.is_stand_in(n) and parse(n.options).docker
        ]

    def knows_all_networks(self) -> bool:
        """Whether what is not known here is not in the cluster either."""
        cluster = self._r.cluster
        return not cluster.present or cluster.stands is Following.CURRENT

    def shown_endpoints(self, network: Network) -> list[Endpoint]:
        """What dockerd has on a network of the cluster, whether a container is in it yet or not."""
        standing = stand_ins.stand_ins(self._r, network.id)
        return [endpoint for each in standing for endpoint in self._r.model.endpoints_of_network(each.id)]

    def held_addresses(self) -> set[str]:
        """CIDR texts of what dockerd has on all networks that stand for one of the cluster's."""
        standing = filter(stand_ins.is_stand_in, self._r.model.networks())
        held = (e for n in standing for e in self._r.model.endpoints_of_network(n.id))
        return {cidr for endpoint in held for cidr in (endpoint.ipv4, endpoint.ipv6)}

    def name_servers(self) -> tuple[str, ...]:
        """Addresses at which dockerd's containers are answered by our resolver."""
        return tuple(each for each in self._r.naming.listens_at() if not ip_address(each).is_loopback)

    def other_servers(self) -> tuple[str, ...]:
        """Whom dockerd's containers ask where it was told nothing: the host's servers that are no loopback's."""
        known = HostServers(time.monotonic).get(os.path.join(self._r.settings.etc, "resolv.conf"), ())
        reached = (each.address for each in known if "%" not in each.address)
        return tuple(each for each in reached if not ip_address(each).is_loopback)

    def look_who_asks(self) -> None:
        """Containers are answered there of the networks that they are on; what they ask from changes with those."""
        self._visitors.look(self.name_servers())

    # What dockerd forgot

    def discard(self, endpoint_ids: Sequence[str]) -> None:
        """Delete stale endpoints; one that cannot be deleted is logged and stays for the next time."""
        for ident in endpoint_ids:
            endpoint = self._endpoint(ident)
            if endpoint is None:
                continue
            log.warning("endpoint %s was forgotten by dockerd: removed", endpoint.name)
            try:
                self.delete_endpoint(ident)
            except CnmError as error:
                log.error("endpoint %s stays: %s", endpoint.name, error)

    # Finding

    def _network(self, network_id: str) -> Network | None:
        """dockerd's network of exactly this id."""
        with contextlib.suppress(CnmError):
            network = self._r.model.network(network_id)
            if network.id == network_id and network.owner is Owner.DOCKERD:
                return network
        return None

    def _endpoint(self, endpoint_id: str) -> Endpoint | None:
        with contextlib.suppress(CnmError):
            endpoint = self._r.model.endpoint(endpoint_id)
            if endpoint.id == endpoint_id and self._network(endpoint.network_id):
                return endpoint
        return None

    def _known_network(self, network_id: str) -> Network:
        network = self._network(network_id)
        if network is None:
            raise NotFound(
                f"network {network_id[:SHORT]} is not known here: docker network rm, and create it again"
            )
        return network

    def _known_endpoint(self, network_id: str, endpoint_id: str) -> Endpoint:
        endpoint = self._endpoint(endpoint_id)
        if endpoint is None or endpoint.network_id != network_id:
            raise NotFound(
                f"endpoint {endpoint_id[:SHORT]} is not known on network {network_id[:SHORT]}: "
                "disconnect and connect the container"
            )
        return endpoint

    @contextlib.contextmanager
    def _joined(self, network_id: str, endpoint_id: str) -> Iterator[tuple[Network, Endpoint]]:
        """The endpoint under its sandbox's and its network's locks. Raises NotFound, Conflict."""
        endpoint = self._known_endpoint(network_id, endpoint_id)
        with self._r.locks.sandbox(endpoint.sandbox_id), self._r.locks.network(network_id).shared():
            endpoint = self._r.model.endpoint(endpoint_id)
            if endpoint.state is not EndpointState.JOINED:
                raise Conflict(f"endpoint {endpoint.name} is in no sandbox: join it first")
            yield self._r.model.network(network_id), endpoint


def _sandbox_id(key: str) -> str:
    """The same for the same key, so that a sandbox is found without looking for it."""
    return hashlib.sha256(f"sandbox key {key}".encode()).hexdigest()


def _is_same(network: Network, request: NetworkRequest) -> bool:
    """Whether a network is what `request` asks for."""
    return (
        network.driver == request.driver
        and (network.enable_ipv4, network.enable_ipv6) == (request.enable_ipv4, request.enable_ipv6)
        and network.options == request.options
        and network.internal == request.internal
        and network.direct == request.direct
        and network.ipam_config == request.ipam_config
    )


def _is_same_endpoint(endpoint: Endpoint, network: Network, request: EndpointRequest) -> bool:
    """Whether an endpoint is what `request` asks for on the network; a MAC of our choice was not asked for."""
    return (
        endpoint.network_id == network.id
        and endpoint.ipv4.partition("/")[0] == request.ipv4
        and endpoint.ipv6.partition("/")[0] == request.ipv6
        and (endpoint.mac if endpoint.mac_given else "") == request.mac
        and (endpoint.ifname if endpoint.ifname_given else "") == request.ifname
        and endpoint.options == request.options
    )
