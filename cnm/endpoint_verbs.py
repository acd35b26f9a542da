"""Create, join, leave and delete endpoints; publish their ports. Each verb happens whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence

import msgspec

from cnm import external, handover, ipam, names, ports, segments, wanted
from cnm.endpoint import Endpoint, EndpointRequest, EndpointState, PortMapping, PortRequest
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter
from cnm.kernel.contract import PublishedPort
from cnm.kernel.diff import merge
from cnm.kernel.state import KernelState
from cnm.mac import generate_mac, random_mac
from cnm.model import SHORT, new_id
from cnm.naming import Attached
from cnm.network import Network, Owner
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind

replace = msgspec.structs.replace

_FIRST_BESIDE_DOCKERD = 100
"""dockerd numbers the interfaces that it moves from 0, and knows of no others."""

log = logging.getLogger(__name__)


class EndpointVerbs:
    """Callers hold `locks.verbs` shared, the sandbox's lock where one is named, and the network's lock shared."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources

    # Create and delete

    def create(self, network: Network, request: EndpointRequest) -> Endpoint:
        """Recorded, with its addresses; nothing in the kernel yet."""
        endpoint = self._allocate(network, request, EndpointState.CREATED)
        with contextlib.ExitStack() as undo:
            undo.callback(self._free, network, endpoint)
            endpoint = external.create_endpoint(self._r, network, endpoint, undo)
            self._r.store.commit(put=[endpoint], durable=network.owner is Owner.CNM)
            undo.pop_all()
        self._publish_event("create", network, endpoint)
        return endpoint

    def _allocate(self, network: Network, request: EndpointRequest, state: EndpointState) -> Endpoint:
        """In the model, with its addresses; not stored."""
        self.check(network, request)
        ident = request.id or new_id()
        name = request.name or f"ep-{ident[:SHORT]}"
        service = self._r.ipam_of(network)
        mac = names.parse_mac(request.mac) if request.mac else ""
        given = bool(mac)
        if not mac and service.capabilities().requires_mac_address:
            mac = random_mac()
        self._check_mac_is_free(network, mac)
        ipv4, ipv6 = ipam.allocate_endpoint(service, network, request.ipv4, request.ipv6, mac, name=name)
        endpoint = Endpoint(
            id=ident,
            name=name,
            network_id=network.id,
            state=state,
            ifname=request.ifname,
            ifname_given=bool(request.ifname),
            mac=mac or self._derived_mac(network, ipv4, ipv6),
            mac_given=given,
            ipv4=ipv4,
            ipv6=ipv6,
            aliases=request.aliases,
            links=request.links,
            options=request.options,
            gw_priority=request.gw_priority,
            port_requests=request.ports,
        )
        try:
            self._r.driver_of(network).validate_endpoint(network, endpoint)
            self._r.model.add_endpoint(endpoint)
        except BaseException:
            ipam.release_endpoint(service, network, ipv4, ipv6)
            raise
        return endpoint

    def _derived_mac(self, network: Network, ipv4: str, ipv6: str) -> str:
        """Empty without an address to derive it from, and where endpoints have none of their own."""
        own = self._r.driver_of(network).capabilities.own_mac
        return generate_mac(ipv4, ipv6) if own and (ipv4 or ipv6) else ""

    def check(self, network: Network, request: EndpointRequest, sandbox: Sandbox | None = None) -> None:
        """What can be refused before anything is made: even `bridge` gets its device only for a sound request."""
        if sandbox is not None:
            self._check_sandbox(network, sandbox)
        if request.mac:
            names.parse_mac(request.mac)
        if request.name:
            names.check_endpoint(request.name)
        if request.ifname:
            names.check_interface(request.ifname)
        if network.predefined and (request.ipv4 or request.ipv6):
            raise InvalidParameter("user-specified IP address is supported on user-defined networks only")
        if network.predefined and request.aliases:
            raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
        if network.predefined and request.links:
            raise InvalidParameter("links are only supported for user-defined networks")
        if request.ports:
            self._check_publishing(network)

    def _check_publishing(self, network: Network) -> None:
        if not self._r.driver_of(network).capabilities.publishes_ports:
            raise InvalidParameter(
                f"ports cannot be published on network {network.name}: driver {network.driver} has none"
            )
        if network.internal:
            raise InvalidParameter(f"ports cannot be published on network {network.name}: it is internal")

    def _check_mac_is_free(self, network: Network, mac: str) -> None:
        for other in self._r.model.endpoints_of_network(network.id) if mac else ():
            if other.mac == mac:
                raise Conflict(
                    f"MAC address {mac} is in use by endpoint {other.name} on network {network.name}"
                )

    def _free(self, network: Network, endpoint: Endpoint) -> None:
        """Out of the model, its addresses given back."""
        self._r.model.drop(endpoint)
        ipam.release_endpoint(self._r.ipam_of(network), network, endpoint.ipv4, endpoint.ipv6)

    def delete(self, network: Network, endpoint: Endpoint) -> None:
        """An endpoint that is in no sandbox."""
        if endpoint.state is not EndpointState.CREATED:
            raise Conflict(
                f"endpoint {network.name}/{endpoint.name} is joined to a sandbox: leave it first, or use force"
            )
        with contextlib.ExitStack() as undo:
            self._r.model.exchange(endpoint, replace(endpoint, state=EndpointState.DELETING))
            undo.callback(self._r.model.replace, endpoint)
            external.delete_endpoint(self._r, network, endpoint, undo)
            self._r.store.commit(delete=[endpoint], durable=network.owner is Owner.CNM)
            undo.pop_all()
        self._free(network, endpoint)
        self._publish_event("destroy", network, endpoint)

    # Join and leave

    def connect(self, network: Network, sandbox: Sandbox, request: EndpointRequest) -> Endpoint:
        """Create and join in one: the endpoint's first record is the intent of the whole."""
        if not request.name:
            request = replace(request, name=sandbox.name)
        self._check_sandbox(network, sandbox)
        endpoint = self._allocate(network, request, EndpointState.CONNECTING)
        try:
            return self._join(network, endpoint, sandbox, EndpointState.CONNECTING, request.ports)
        except BaseException:
            self._free(network, endpoint)
            raise

    def join(
        self,
        network: Network,
        endpoint: Endpoint,
        sandbox: Sandbox,
        *,
        moved: bool = False,
        ports: tuple[PortRequest, ...] | None = None,
    ) -> Endpoint:
        """`moved`: the link is made on the host, and whoever owns the sandbox moves it there.

        `ports` are what is published in this sandbox, if not what the endpoint asks for itself.
        """
        if endpoint.state is not EndpointState.CREATED:
            where = self._r.model.sandbox(endpoint.sandbox_id).name if endpoint.sandbox_id else "a sandbox"
            raise Forbidden(
                f"endpoint {network.name}/{endpoint.name} is joined to {where} already: leave it first"
            )
        self._check_sandbox(network, sandbox)
        asked = endpoint.port_requests if ports is None else ports
        return self._join(network, endpoint, sandbox, EndpointState.JOINING, asked, moved=moved)

    def _check_sandbox(self, network: Network, sandbox: Sandbox) -> None:
        """Docker's rules for the host's namespace and for `none`; in its own sandboxes dockerd keeps them."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return
        here = [self._r.model.network(e.network_id) for e in self._r.model.endpoints_of_sandbox(sandbox.id)]
        if any(other.id == network.id for other in here):
            raise Forbidden(f"sandbox {sandbox.name} is connected to network {network.name} already")
        if network.driver == "host" and sandbox.kind is not SandboxKind.HOST:
            raise InvalidParameter(
                "cannot connect container to host network - container must be created in host network mode"
            )
        if sandbox.kind is SandboxKind.HOST and network.driver != "host":
            raise InvalidParameter(
                f"sandbox {sandbox.name} is the host's own namespace: it joins only network host"
            )
        if here and (network.driver == "null" or any(other.driver == "null" for other in here)):
            raise InvalidParameter(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )

    def _join(
        self,
        network: Network,
        endpoint: Endpoint,
        sandbox: Sandbox,
        intent: EndpointState,
        asked: tuple[PortRequest, ...],
        *,
        moved: bool = False,
    ) -> Endpoint:
        r = self._r
        with contextlib.ExitStack() as undo:
            joining = replace(
                endpoint,
                state=intent,
                sandbox_id=sandbox.id,
                ifname="" if moved else self._interface_name(network, endpoint, sandbox),
                moved=moved,
                port_requests=asked,
            )
            joining = self._reserve(network, joining, asked, undo)
            r.model.exchange(endpoint, joining)
            undo.callback(r.model.replace, endpoint)
            if _is_recorded(sandbox):
                r.store.commit(put=[joining], durable=False)
            undo.callback(self._unjoin, endpoint)
            joining = external.join(r, network, joining, sandbox, undo, self._namer(endpoint, sandbox))
            new_in_network = segments.enter(r, network, joining, undo)
            displaced, arriving = self._default_routes(sandbox, joining)
            if displaced.routes:
                undo.callback(r.kernel.apply, [displaced])
                r.kernel.remove([displaced])
            states = merge((*wanted.endpoint_wanted(r, network, joining, sandbox), arriving))
            undo.callback(r.kernel.remove, handover.given_up(states))
            with segments.publishing(r, network, joining, sandbox, undo):
                r.kernel.settle_flows(_addresses(joining))
                r.kernel.apply(states)
                self._flush_udp(joining.ports)
            if new_in_network:
                r.cluster.listeners.settle()
            already = wanted.attached(r, sandbox)
            undo.callback(r.naming.left, sandbox, Attached(joining, network), already)
            r.naming.joined(sandbox, Attached(joining, network), already)
            joined = external.joined(r, sandbox, replace(joining, state=EndpointState.JOINED), undo)
            r.files.joined(sandbox, joined, undo)
            r.store.commit(put=[joined] if _is_recorded(sandbox) else [sandbox, joined], durable=False)
            undo.pop_all()
        r.model.replace(joined)
        r.relaying.serve(joined, joined.ports, r.facts)
        self._publish_event("connect", network, joined)
        return joined

    def _unjoin(self, endpoint: Endpoint) -> None:
        """Undo the intent: back to the record from before, to none if the verb had made it."""
        if endpoint.state is EndpointState.CREATED:
            self._r.store.commit(put=[endpoint], durable=False)
        else:
            self._r.store.commit(delete=[endpoint], durable=False)

    def _interface_name(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> str:
        """The name asked for, or the driver's prefix with the lowest free number."""
        prefix = self._r.driver_of(network).interface_prefix(network)
        return self._namer(endpoint, sandbox)(prefix) if prefix else ""

    def _namer(self, endpoint: Endpoint, sandbox: Sandbox) -> Callable[[str], str]:
        return lambda prefix: self._free_name(prefix, endpoint, sandbox)

    def _free_name(self, prefix: str, endpoint: Endpoint, sandbox: Sandbox) -> str:
        inside = self._r.model.endpoints_of_sandbox(sandbox.id)
        taken = {e.ifname for e in inside if e.id != endpoint.id}
        if sandbox.kind in (SandboxKind.GIVEN, SandboxKind.DOCKERD):
            taken |= self._r.kernel.interface_names(sandbox.netns)
        if endpoint.ifname_given:
            if endpoint.ifname in taken:
                raise Conflict(
                    f"interface {endpoint.ifname} exists in sandbox {sandbox.name} already: choose another name"
                )
            return endpoint.ifname
        first = _FIRST_BESIDE_DOCKERD if sandbox.kind is SandboxKind.DOCKERD else 0
        return next(name for number in range(first, 1 << 16) if (name := f"{prefix}{number}") not in taken)

    def _default_routes(self, sandbox: Sandbox, joining: Endpoint) -> tuple[KernelState, KernelState]:
        """(the default routes that `joining` displaces, those that it brings)."""
        others = wanted.joined_endpoints(self._r, sandbox.id)
        before = wanted.gateway_routes(sandbox, wanted.gateways(self._r, others))
        after = wanted.gateway_routes(sandbox, wanted.gateways(self._r, [*others, joining]))
        return _routes_of(before, without=after), _routes_of(after, without=before)

    def leave(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, *, wait: bool = False
    ) -> Endpoint:
        """Out of its sandbox; its addresses stay with it."""
        self._check_joined(network, endpoint)
        left = self._left(endpoint, sandbox)
        with self._departing(network, endpoint, sandbox, EndpointState.LEAVING, wait):
            self._r.store.commit(put=[left], durable=False)
        self._r.model.replace(left)
        self._publish_event("disconnect", network, endpoint)
        return left

    def disconnect(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, *, wait: bool = False
    ) -> None:
        """Leave and delete in one."""
        self._check_joined(network, endpoint)
        with self._departing(network, endpoint, sandbox, EndpointState.DELETING, wait):
            self._r.store.commit(delete=[endpoint], durable=False)
        self._free(network, endpoint)
        self._publish_event("disconnect", network, endpoint)

    def _check_joined(self, network: Network, endpoint: Endpoint) -> None:
        if endpoint.state is not EndpointState.JOINED:
            raise Conflict(f"endpoint {network.name}/{endpoint.name} is in no sandbox: nothing to leave")

    def _left(self, endpoint: Endpoint, sandbox: Sandbox) -> Endpoint:
        """Its ports are wanted in its next sandbox too; dockerd tells them anew for each."""
        return replace(
            endpoint,
            state=EndpointState.CREATED,
            sandbox_id="",
            ports=(),
            port_requests=() if sandbox.kind is SandboxKind.DOCKERD else endpoint.port_requests,
            ifname=endpoint.ifname if endpoint.ifname_given else "",
            moved=False,
            attachment=None,
        )

    @contextlib.contextmanager
    def _departing(
        self, network: Network, endpoint: Endpoint, sandbox: Sandbox, intent: EndpointState, wait: bool
    ) -> Iterator[None]:
        """Out of the sandbox, whole again if the block fails, which records the outcome."""
        r = self._r
        leaving = replace(endpoint, state=intent)
        before = wanted.gateway_routes(sandbox, wanted.gateways(r, wanted.joined_endpoints(r, sandbox.id)))
        states = wanted.endpoint_wanted(r, network, endpoint, sandbox)
        with contextlib.ExitStack() as undo:
            r.model.exchange(endpoint, leaving)
            undo.callback(r.model.replace, endpoint)
            if _is_recorded(sandbox):
                r.store.commit(put=[leaving], durable=False)
            undo.callback(r.store.commit, put=[endpoint], durable=False)
            undo.callback(r.kernel.apply, merge((*states, before)))
            external.leave(r, network, endpoint, sandbox, undo)
            segments.withdraw(r, network, endpoint, sandbox, undo)
            r.kernel.remove(handover.departing(states), wait)
            if intent is EndpointState.DELETING:
                external.delete_endpoint(r, network, endpoint, undo)
            r.files.left(sandbox, undo)
            yield
            undo.pop_all()
        segments.left(r, network, endpoint)
        self._release(endpoint.ports)
        r.kernel.forget_flows(_addresses(endpoint))
        r.naming.left(sandbox, Attached(endpoint, network), wanted.attached(r, sandbox))
        self._succeed(sandbox, before)
        external.succeed(r, sandbox)

    def _succeed(self, sandbox: Sandbox, before: KernelState) -> None:
        """Give the default routes to the endpoints that remain. They may be unfit for it; the departure stands."""
        r = self._r
        remaining = wanted.gateways(r, wanted.joined_endpoints(r, sandbox.id))
        successor = _routes_of(wanted.gateway_routes(sandbox, remaining), without=before)
        if not successor.routes or not r.kernel.namespace_alive(sandbox.netns):
            return
        try:
            r.kernel.apply([successor])
        except CnmError as error:
            log.warning("sandbox %s has no default route now: %s", sandbox.name, error)

    # Ports

    def publish(
        self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]
    ) -> tuple[PortMapping, ...]:
        """Publish more ports, at once where the endpoint is joined; what was added is returned."""
        self._check_publishing(network)
        r = self._r
        asked = (*endpoint.port_requests, *requests)
        if endpoint.state is not EndpointState.JOINED:
            self._ask_for(endpoint, asked)
            return ()
        with contextlib.ExitStack() as undo:
            changed = self._reserve(network, replace(endpoint, port_requests=asked), requests, undo)
            changed = external.republish(r, changed, undo)
            added = changed.ports[len(endpoint.ports) :]
            r.store.commit(put=[changed], durable=False)
            undo.callback(r.store.commit, put=[endpoint], durable=False)
            states = self._port_state(network, endpoint, added, beside=endpoint.ports)
            undo.callback(r.kernel.remove, states)
            r.kernel.apply(states)
            self._flush_udp(added)
            undo.pop_all()
        r.model.replace(changed)
        r.relaying.serve(changed, added, r.facts)
        self._publish_event("publish", network, changed)
        return added

    def _port_state(
        self,
        network: Network,
        endpoint: Endpoint,
        mappings: Sequence[PortMapping],
        beside: Sequence[PortMapping],
    ) -> tuple[KernelState, ...]:
        """What `mappings` want and those `beside` them do not: two host ports may lead to one port of a container."""
        driver = self._r.driver_of(network)
        others = driver.port_state(network, endpoint, beside, self._r.facts)
        shared = {element for state in others for element in state.elements}
        return tuple(
            dataclasses.replace(state, elements=tuple(e for e in state.elements if e not in shared))
            for state in driver.port_state(network, endpoint, mappings, self._r.facts)
        )

    def _ask_for(self, endpoint: Endpoint, ports: tuple[PortRequest, ...]) -> None:
        """Record what is to be published when the endpoint is joined."""
        changed = replace(endpoint, port_requests=ports)
        with contextlib.ExitStack() as undo:
            self._r.model.exchange(endpoint, changed)
            undo.callback(self._r.model.replace, endpoint)
            self._r.store.commit(put=[changed], durable=True)
            undo.pop_all()

    def unpublish(self, network: Network, endpoint: Endpoint, requests: Sequence[PortRequest]) -> None:
        r = self._r
        going, staying = ports.withdraw(endpoint.ports or ports.as_mappings(endpoint.port_requests), requests)
        if endpoint.state is not EndpointState.JOINED:
            self._ask_for(endpoint, ports.as_requests(staying))
            return
        # What another program publishes is held by no socket of ours.
        published, held = (staying, going) if endpoint.ports else ((), ())
        changed = replace(endpoint, port_requests=ports.as_requests(staying), ports=published)
        states = self._port_state(network, endpoint, going, beside=staying)
        with contextlib.ExitStack() as undo:
            changed = external.republish(r, changed, undo)
            r.store.commit(put=[changed], durable=False)
            undo.callback(r.store.commit, put=[endpoint], durable=False)
            undo.callback(r.kernel.apply, states)
            r.kernel.remove(states)
            r.kernel.flush_ports(_bare(endpoint.ipv4), _bare(endpoint.ipv6), _published(going))
            undo.pop_all()
        r.model.replace(changed)
        self._release(held)
        self._publish_event("unpublish", network, changed)

    def _reserve(
        self,
        network: Network,
        endpoint: Endpoint,
        requests: Sequence[PortRequest],
        undo: contextlib.ExitStack,
    ) -> Endpoint:
        """The endpoint with `requests` turned into ports that are held on the host."""
        if not requests:
            return endpoint
        to_hold, unbound = self._r.driver_of(network).bindings(network, endpoint, requests)
        held = self._r.reservations.reserve(to_hold)
        undo.callback(self._r.reservations.release, held)
        return replace(endpoint, ports=(*endpoint.ports, *held, *unbound))

    def _release(self, mappings: Sequence[PortMapping]) -> None:
        self._r.relaying.drop(mappings)
        self._r.reservations.release(mappings)

    def _flush_udp(self, added: Sequence[PortMapping]) -> None:
        udp = [port for port in _published(added) if port.protocol == "udp"]
        if udp:
            self._r.kernel.flush_udp(udp)

    def _publish_event(self, action: str, network: Network, endpoint: Endpoint) -> None:
        kind = "network" if action in ("connect", "disconnect") else "endpoint"
        ident = network.id if kind == "network" else endpoint.id
        self._r.events.publish(
            kind,
            action,
            ident,
            name=network.name,
            type=network.driver,
            container=endpoint.sandbox_id,
            endpoint=endpoint.name,
        )


def _is_recorded(sandbox: Sandbox) -> bool:
    """Whether verbs write down what they are about to do, besides what they have done.

    Not for dockerd, which says again what it got no answer to: what a killed process left on the host is nobody's
    then, and start-up takes it away.
    """
    return sandbox.kind is not SandboxKind.DOCKERD


def _routes_of(state: KernelState, *, without: KernelState) -> KernelState:
    """The routes of `state` that `without` does not have."""
    routes = tuple(route for route in state.routes if route not in without.routes)
    return KernelState(namespace=state.namespace, routes=routes)


def _published(mappings: Sequence[PortMapping]) -> list[PublishedPort]:
    return [
        PublishedPort(m.protocol.value, m.container_port, m.host_port, m.host_address)
        for m in ports.singles(mappings)
    ]


def _addresses(endpoint: Endpoint) -> list[str]:
    return [_bare(cidr) for cidr in (endpoint.ipv4, endpoint.ipv6) if cidr]


def _bare(cidr: str) -> str:
    return cidr.partition("/")[0]
