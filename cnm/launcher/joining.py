"""Networks of a container that is there already: connect and disconnect.

The rules and words are Docker's (daemon/container_operations.go of 20.10): while it does not run, networks are only
noted, and one that is gone can be left.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import msgspec

from cnm.errors import CnmError, Conflict, Forbidden, NotFound
from cnm.launcher.container import Container
from cnm.launcher.modes import shared_with
from cnm.launcher.parts import Parts
from cnm.launcher.published import port_requests
from cnm.launcher.sandboxes import publishes
from cnm.wire.engine import EndpointSettings, PortRequest

log = logging.getLogger("cnm.launcher")


class Joining:
    """Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._sandboxes = parts.sandboxes

    def connect(self, network: str, reference: str, settings: EndpointSettings) -> None:
        """One that does not run joins when it starts. Raises NotFound, Conflict, Forbidden, and what cnmd says."""
        found = self._sandboxes.network(network)
        with self._p.registry.locked(reference) as container:
            name = str(found["Name"])
            if shared_with(container.host.network_mode):
                raise Conflict(
                    "container sharing network namespace with another container or host cannot be connected "
                    "to any other network"
                )
            if not container.state.status.is_alive:
                self._keep(container, {**container.networks, name: settings})
            elif name in container.networks:
                raise Forbidden(f"endpoint with name {container.name} already exists in network {name}")
            else:
                self._join(container, name, settings, self._unpublished(container, found))

    def _join(
        self, container: Container, network: str, settings: EndpointSettings, ports: list[PortRequest]
    ) -> None:
        """What was asked for is noted before: after a kill, or a lost answer, only the endpoint would tell."""
        self._keep(container, {**container.networks, network: settings})
        try:
            self._sandboxes.connect(network, container.id, settings, ports)
        except CnmError:
            if not self._may_be_on(container, network):
                self._keep(container, container.networks)
            raise

    def _may_be_on(self, container: Container, network: str) -> bool:
        """Where cnmd is away nobody knows: the record is made to agree with it when it is back."""
        try:
            return any(
                each["Network"] == network for each in self._sandboxes.record(container.id)["Endpoints"]
            )
        except NotFound:
            return False
        except CnmError:
            return True

    def _unpublished(self, container: Container, network: dict[str, Any]) -> list[PortRequest]:
        """Ports that no network was there to be published on."""
        ports = port_requests(container.host, container.config.exposed_ports or {})
        if not ports or not publishes(network) or _published(self._sandboxes.endpoints(container.id)):
            return []
        return ports

    def disconnect(self, network: str, reference: str, *, force: bool) -> None:
        """With `force` from a network that is gone, too, and sandboxes that are no containers. Raises as `connect`."""
        try:
            with self._p.registry.locked(reference) as container:
                self._disconnect(container, network, force)
        except NotFound:
            if not force or self._is_container(reference):
                raise
            self._sandboxes.disconnect(network, reference, force=True)

    def _is_container(self, reference: str) -> bool:
        with contextlib.suppress(NotFound):
            return bool(self._p.registry.find(reference))
        return False

    def _disconnect(self, container: Container, network: str, force: bool) -> None:
        try:
            name = str(self._sandboxes.network(network)["Name"])
            is_there = True
        except NotFound:
            if container.state.status.is_alive and not force:
                raise
            name, is_there = network, False
        is_left = container.state.status.is_alive and is_there
        if name not in container.networks:
            which = "network" if is_left else "the network"
            raise Conflict(f"container {container.id} is not connected to {which} {name}")
        if is_left:
            self._leave(container, name, force)
        self._keep(container, {key: value for key, value in container.networks.items() if key != name})

    def _leave(self, container: Container, network: str, force: bool) -> None:
        """What was published there is published on the network that is the way out from then on."""
        endpoints = self._sandboxes.endpoints(container.id)
        self._sandboxes.disconnect(network, container.id, force=force)
        ports = _published(each for each in endpoints if each["Network"] == network)
        if ports:
            try:
                self._sandboxes.publish(container.id, ports)
            except CnmError as error:
                log.error("ports of container %s are published no more: %s", container.short, error)

    def _keep(self, container: Container, networks: dict[str, EndpointSettings]) -> None:
        self._p.registry.put(msgspec.structs.replace(container, networks=networks))


def _published(endpoints: Any) -> list[dict[str, Any]]:
    return [port for endpoint in endpoints for port in endpoint["Ports"]]
