"""The way out of sandboxes that are on networks of the cluster only: an endpoint of a network of this host.

As Docker's docker_gwbridge: it comes with the first network of the cluster that is not internal, unless the sandbox has
a way out already, and goes with the last. Ports asked for on a network of the cluster are published there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

import msgspec

from cnm import wanted
from cnm.clustered import is_clustered
from cnm.endpoint import Endpoint, EndpointRequest, PortRequest
from cnm.endpoint_verbs import EndpointVerbs
from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from cnm.network import EGRESS_NETWORK, Network, NetworkRequest
from cnm.network_verbs import NetworkVerbs
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind

log = logging.getLogger(__name__)

_OPTIONS = {"com.docker.network.bridge.name": EGRESS_NETWORK, "com.docker.network.bridge.enable_icc": "false"}


class Egress:
    """Callers hold `locks.verbs` shared and the sandbox's lock, and no network's."""

    def __init__(self, resources: Resources, networks: NetworkVerbs, endpoints: EndpointVerbs) -> None:
        self._r = resources
        self._networks = networks
        self._endpoints = endpoints

    def apart(
        self, network: Network, request: EndpointRequest
    ) -> tuple[EndpointRequest, tuple[PortRequest, ...]]:
        """(the request without the ports that are to be published at the way out, those ports)."""
        if not request.ports or not is_clustered(self._r, network):
            return request, ()
        if network.internal:
            raise InvalidParameter(f"ports cannot be published on network {network.name}: it is internal")
        return msgspec.structs.replace(request, ports=()), request.ports

    def follow(self, sandbox: Sandbox, ports: Sequence[PortRequest] = ()) -> None:
        """Make the way out what the sandbox's other networks need now, and publish `ports` there.

        Raises what making it raises.
        """
        if sandbox.kind not in (SandboxKind.OWN, SandboxKind.GIVEN):
            return
        ours = self._own_endpoint(sandbox)
        if ours is None and self._is_needed(sandbox):
            self._connect(sandbox)
        elif ours is not None and not self._is_needed(sandbox):
            self._give_up(sandbox, ours)
        if ports:
            self._publish(sandbox, ports)

    def follow_departure(self, sandbox: Sandbox) -> None:
        """The same after an endpoint has left, whatever fails."""
        try:
            self.follow(sandbox)
        except CnmError as error:
            log.warning("sandbox %s has no way out now: %s", sandbox.name, error)

    def resume(self) -> None:
        """After a start: a process that was killed may have come only half of the way."""
        for sandbox in self._r.model.sandboxes():
            with self._r.locks.verbs.shared(), self._r.locks.sandbox(sandbox.id):
                if self._own_endpoint(sandbox) is not None or self._is_needed(sandbox):
                    self.follow_departure(sandbox)

    def _own_endpoint(self, sandbox: Sandbox) -> Endpoint | None:
        for endpoint in wanted.joined_endpoints(self._r, sandbox.id):
            if self._r.model.network(endpoint.network_id).name == EGRESS_NETWORK:
                return endpoint
        return None

    def _is_needed(self, sandbox: Sandbox) -> bool:
        r, leads_out = self._r, False
        for endpoint in wanted.joined_endpoints(r, sandbox.id):
            network = r.model.network(endpoint.network_id)
            if network.name == EGRESS_NETWORK:
                continue
            if any(r.driver_of(network).gateways(network, endpoint)):
                return False
            leads_out |= is_clustered(r, network) and not network.internal
        return leads_out

    def _connect(self, sandbox: Sandbox) -> None:
        network = self._network()
        with self._r.locks.network(network.id).shared():
            self._endpoints.connect(self._r.model.network(network.id), sandbox, EndpointRequest())

    def _network(self) -> Network:
        """Made at its first use; two may come at the same time."""
        with contextlib.suppress(NotFound):
            return self._r.model.network(EGRESS_NETWORK)
        request = NetworkRequest(name=EGRESS_NETWORK, driver="bridge", options=dict(_OPTIONS))
        with contextlib.suppress(Conflict):
            return self._networks.create(request)
        return self._r.model.network(EGRESS_NETWORK)

    def _give_up(self, sandbox: Sandbox, ours: Endpoint) -> None:
        """Its ports go to the way out that the sandbox has now, if it has one."""
        asked = ours.port_requests
        with self._r.locks.network(ours.network_id).shared():
            network = self._r.model.network(ours.network_id)
            self._endpoints.disconnect(network, self._r.model.endpoint(ours.id), sandbox)
        if asked and self._carrier(sandbox) is not None:
            self._publish(sandbox, asked)

    def _carrier(self, sandbox: Sandbox) -> Endpoint | None:
        chosen = wanted.gateways(self._r, wanted.joined_endpoints(self._r, sandbox.id)).endpoint_id
        return self._r.model.endpoint(chosen) if chosen else None

    def _publish(self, sandbox: Sandbox, ports: Sequence[PortRequest]) -> None:
        carrier = self._carrier(sandbox)
        if carrier is None:
            raise InvalidParameter(f"ports cannot be published: sandbox {sandbox.name} has no way out")
        with self._r.locks.network(carrier.network_id).shared():
            network = self._r.model.network(carrier.network_id)
            self._endpoints.publish(network, self._r.model.endpoint(carrier.id), ports)
