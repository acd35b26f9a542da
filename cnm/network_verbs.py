"""Create, delete and prune networks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from cnm import clustered, external, ipam, names, wanted
from cnm.errors import Forbidden
from cnm.kernel.state import KernelState
from cnm.model import SHORT, new_id
from cnm.network import Network, NetworkRequest, NetworkState, Owner
from cnm.resources import Resources

_NAMESERVER = re.compile(r"^\s*nameserver\s+([0-9.]+)\s*$", re.MULTILINE)
_RESOLV_CONF = "/etc/resolv.conf"


class NetworkVerbs:
    """Callers hold `locks.verbs` shared."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources

    def create(self, request: NetworkRequest) -> Network:
        names.check_network(request.name)
        if request.name in names.PREDEFINED_NETWORKS:
            raise Forbidden(
                f"operation is not permitted on predefined {request.name} network: choose another name"
            )
        driver = self._r.registry.get(request.driver)
        if driver.capabilities.single_instance:
            raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
        self._r.find_ipam(request.ipam_driver or "default")
        request = msgspec.structs.replace(request, scope=request.scope or driver.capabilities.scope)
        network = _from_request(request)
        # Locked before anybody can find it: who uses it meanwhile waits for the outcome.
        with self._r.locks.network(network.id).exclusive(), self._r.sharing(network):
            self._r.model.add_network(network)
            try:
                return self._realise(network, request)
            except BaseException:
                self._r.model.drop(network)
                self._r.locks.forget(network.id)
                raise

    def materialise(self, ref: str) -> Network:
        """The network, with its pools and device if it is a predefined one that is used for the first time."""
        network = self._r.model.network(ref)
        driver = self._r.driver_of(network)
        if network.pools or not network.predefined or not driver.capabilities.needs_ipam:
            return network
        with self._r.locks.network(network.id).exclusive():
            network = self._r.model.network(network.id)
            if network.pools:
                return network
            return self._realise(network, _as_request(network))

    def _realise(self, network: Network, request: NetworkRequest) -> Network:
        """Allocate, record the intent, make it so, record the outcome; undo all of it on failure."""
        r, before = self._r, network
        r.refresh_facts()
        driver = r.driver_of(network)
        service = r.ipam_of(network)
        with contextlib.ExitStack() as undo:
            if driver.capabilities.needs_ipam:
                gateway_v4, gateway_v6 = driver.wants_gateways(network)
                pools = ipam.allocate_network(
                    service,
                    request,
                    self.subnets_to_avoid(),
                    gateway_v4=gateway_v4,
                    gateway_v6=gateway_v6,
                )
                undo.callback(ipam.release_network, service, pools)
                network = msgspec.structs.replace(network, pools=pools)
            network = driver.validate_network(network, r.told_of(network), r.facts_for(driver))
            network = clustered.create(r, network, undo)
            intent = (
                network
                if network.predefined
                else msgspec.structs.replace(network, state=NetworkState.CREATING)
            )
            r.store.commit(put=[intent], durable=False)
            undo.callback(self._forget, before)
            external.create_network(r, network, undo)
            states = wanted.network_wanted(r, network)
            undo.callback(r.kernel.remove, wanted.network_alone(r, network))
            r.kernel.apply(states)
            network = msgspec.structs.replace(network, state=NetworkState.ACTIVE)
            undo.callback(self.apply_host_state)
            undo.callback(r.model.replace, before)
            r.model.replace(network)
            self.apply_host_state()
            r.store.commit(put=[network], durable=True)
            undo.pop_all()
        r.events.publish("network", "create", network.id, name=network.name, type=network.driver)
        return network

    def _forget(self, network: Network) -> None:
        """Undo the intent: a predefined network stays, as it was before its first use."""
        if network.predefined:
            self._r.store.commit(put=[network], durable=True)
        else:
            self._r.store.commit(delete=[network], durable=True)

    def apply_host_state(self) -> None:
        """Forwarding follows the networks that exist; what closes comes before what opens.

        The host's interfaces are listed only when the first network of a family came or the last one went. Switches
        that were thrown stay on: the firewall drops what they would let pass.
        """
        r = self._r
        r.neighbours.networks_changed()
        with r.locks.host:
            needed = r.host_needs()
            if needed == r.host_needed:
                return
            before, after = r.host_state, r.wanted_host_state()
            gone = tuple(element for element in before.elements if element not in after.elements)
            come = tuple(element for element in after.elements if element not in before.elements)
            if gone:
                r.kernel.remove([KernelState(elements=gone)])
            if after.sysctls or come:
                r.kernel.apply([KernelState(sysctls=after.sysctls, elements=come)])
            r.host_state, r.host_needed = after, needed

    def delete(self, ref: str) -> None:
        network = self._r.model.network(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        with self._r.locks.network(network.id).exclusive(), self._r.sharing(network):
            network = self._r.model.network(network.id)
            endpoints = self._r.model.endpoints_of_network(network.id)
            if endpoints:
                listed = ", ".join(f'name:"{e.name}" id:"{e.id[:SHORT]}"' for e in endpoints[:10])
                more = f" and {len(endpoints) - 10} more" if len(endpoints) > 10 else ""
                raise Forbidden(
                    f"network {network.name} has active endpoints ({listed}{more}): disconnect or remove them first"
                )
            self._unmake(network)
        self._r.locks.forget(network.id)
        self._r.events.publish("network", "destroy", network.id, name=network.name, type=network.driver)

    def _unmake(self, network: Network) -> None:
        r = self._r
        clustered.delete(r, network)
        states = wanted.network_wanted(r, network)
        deleting = msgspec.structs.replace(network, state=NetworkState.DELETING)
        with contextlib.ExitStack() as undo:
            r.store.commit(put=[deleting], durable=False)
            undo.callback(r.store.commit, put=[network], durable=False)
            r.model.replace(deleting)
            undo.callback(r.model.replace, network)
            undo.callback(r.kernel.apply, states)
            r.kernel.remove(wanted.network_alone(r, network))
            if not external.is_external(r, network):
                r.store.commit(delete=[network], durable=True)
            undo.pop_all()
        if network.pools and not clustered.has_its_pools(r, network):
            ipam.release_network(r.ipam_of(network), network.pools)
        external.delete_network(r, network)
        r.naming.network_gone(network)
        r.model.drop(network)
        self.apply_host_state()

    def prune(self, keep: Callable[[Network], bool]) -> list[str]:
        """Names of the networks deleted: those without endpoints that `keep` does not hold on to."""
        deleted = []
        for network in self._r.model.networks():
            kept = network.predefined or network.owner is not Owner.CNM or keep(network)
            if kept or self._r.model.endpoints_of_network(network.id):
                continue
            with contextlib.suppress(Forbidden):
                self.delete(network.id)
                deleted.append(network.name)
        return deleted

    def subnets_to_avoid(self) -> tuple[str, ...]:
        """CIDR texts that a chosen subnet must not touch: the host's own networks and its name servers."""
        return (*self._r.kernel.on_link_routes(), *(f"{address}/32" for address in _nameservers()))


def _nameservers() -> list[str]:
    try:
        with open(_RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            return _NAMESERVER.findall(file.read())
    except OSError:
        return []


def now() -> str:
    """The time as Docker writes it: RFC 3339 with nanoseconds, UTC."""
    moment = datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond * 1000:09d}Z"


def _from_request(request: NetworkRequest) -> Network:
    return Network(
        id=request.id or new_id(),
        name=request.name,
        driver=request.driver,
        created=now(),
        state=NetworkState.CREATING,
        owner=request.owner,
        direct=request.direct,
        scope=request.scope or "local",
        enable_ipv4=request.enable_ipv4 is not False,
        enable_ipv6=request.enable_ipv6 is True,
        internal=request.internal,
        attachable=request.attachable,
        ipam_driver=request.ipam_driver or "default",
        ipam_options=request.ipam_options,
        ipam_config=request.ipam_config,
        options=request.options,
        labels=request.labels,
    )


def _as_request(network: Network) -> NetworkRequest:
    return NetworkRequest(
        name=network.name,
        driver=network.driver,
        enable_ipv4=network.enable_ipv4,
        enable_ipv6=network.enable_ipv6,
        ipam_driver=network.ipam_driver,
        ipam_options=network.ipam_options,
        ipam_config=network.ipam_config,
    )


def predefined(name: str, driver: str) -> Network:
    """A network that exists from first start."""
    return Network(
        id=new_id(),
        name=name,
        driver=driver,
        created=now(),
        state=NetworkState.ACTIVE,
        ipam_driver=_IPAM_OF[driver],
    )


_IPAM_OF = {"bridge": "default", "host": "null", "null": "null"}
