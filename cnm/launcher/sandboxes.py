"""The network side of a container: its sandbox at cnmd, which has the container's id and is there while it runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound, Unavailable
from cnm.launcher.cnmd import Cnmd, escaped
from cnm.launcher.container import Container
from cnm.launcher.endpoints_known import Endpoints, EndpointsKnown
from cnm.launcher.published import port_requests
from cnm.wire.engine import EndpointSettings, PortRequest

log = logging.getLogger("cnm.launcher")

_PATH = "/cnm/v1/sandboxes"
PREDEFINED = frozenset({"bridge", "host", "none"})


class Sandbox(NamedTuple):
    """What of a sandbox the container's process needs; `netns` is "" for the host's own network namespace."""

    netns: str
    hosts: str
    hostname: str
    resolv_conf: str


class Sandboxes:
    """Thread-safe; callers hold the container's lock."""

    def __init__(self, cnmd: Cnmd) -> None:
        self._cnmd = cnmd
        self.known = EndpointsKnown()
        cnmd.changed = self.known.changed

    def make(self, container: Container, netns: str = "") -> Sandbox:
        """A new sandbox, on no network yet; `netns` is the path of a namespace that is there already.

        What an earlier life of the container left is replaced. Raises what cnmd says; nothing is left then.
        """
        is_host = container.host.network_mode == "host"
        wanted = {
            "Id": container.id,
            "Name": container.name,
            "NetnsPath": "host" if is_host else netns,
            "Hostname": hostname(container),
            "Dns": container.host.dns or [],
            "DnsSearch": container.host.dns_search or [],
            "DnsOptions": container.host.dns_options or [],
            "ExtraHosts": container.host.extra_hosts or [],
            "Labels": {},
        }
        try:
            made = self._cnmd.ask("POST", _PATH, wanted)
        except Conflict:
            self.remove(container.id)
            made = self._cnmd.ask("POST", _PATH, wanted)
        return _sandbox(made, is_host)

    def join(self, container: Container, exposed: Mapping[str, Any]) -> None:
        """The sandbox on the container's networks. Raises what cnmd says; some may be joined then."""
        ports = port_requests(container.host, exposed)
        publishing = self._publishing(container) if ports else ""
        for network, settings in container.networks.items():
            self.connect(network, container.id, settings, ports if network == publishing else [])

    def _publishing(self, container: Container) -> str:
        """The network that ports are published on: the first that leads out."""
        for reference in container.networks:
            if publishes(self.network(reference)):
                return reference
        return ""

    def connect(
        self, network: str, ident: str, settings: EndpointSettings, ports: list[PortRequest] | None = None
    ) -> None:
        config = msgspec.structs.replace(settings, ports=ports) if ports else settings
        body = {"Container": ident, "EndpointConfig": msgspec.to_builtins(config)}
        self._cnmd.ask("POST", f"/networks/{escaped(network)}/connect", body)

    def disconnect(self, network: str, ident: str, *, force: bool) -> None:
        body = {"Container": ident, "Force": force}
        self._cnmd.ask("POST", f"/networks/{escaped(network)}/disconnect", body)

    def publish(self, ident: str, ports: list[dict[str, Any]]) -> None:
        """Ports as they were published before (`cnm.wire.control.Port`), on the network that is the way out.

        Nothing where there is none. Raises what cnmd says.
        """
        if gateway := self.record(ident)["Gateway"]:
            wanted = [
                {
                    "Protocol": port["Protocol"],
                    "ContainerPort": port["ContainerPort"],
                    "ContainerPortEnd": port["ContainerPort"] + port["Count"] - 1,
                    "HostPort": port["HostPort"],
                    "HostPortEnd": port["HostPort"] + port["Count"] - 1,
                    "HostIp": port["HostIp"],
                }
                for port in ports
            ]
            self._cnmd.ask("POST", f"/cnm/v1/endpoints/{gateway}/ports", {"Ports": wanted})

    def remove(self, ident: str) -> None:
        """Raises what cnmd says; one that is not there is no error."""
        with contextlib.suppress(NotFound):
            self._cnmd.ask("DELETE", f"{_PATH}/{ident}?force=1")

    def rename(self, ident: str, name: str) -> None:
        self._cnmd.ask("POST", f"{_PATH}/{ident}/rename", {"Name": name})

    def find(self, ident: str) -> Sandbox:
        """Raises NotFound."""
        found = self.record(ident)
        return _sandbox(found, found["Kind"] == "host")

    def endpoints(self, ident: str) -> Endpoints:
        """None where it, or cnmd, is not there."""
        try:
            return self.known.of(ident, self._asked)
        except NotFound:
            return []
        except Unavailable as error:
            log.warning("container %s is shown without its networks: %s", ident[:12], error)
            return []

    def _asked(self, ident: str) -> Endpoints:
        found: Endpoints = self.record(ident)["Endpoints"]
        return found

    def all(self) -> dict[str, list[dict[str, Any]]]:
        """Endpoints by the ids of sandboxes; nothing where cnmd is away."""
        try:
            return {ident: each["Endpoints"] for ident, each in self.records().items()}
        except CnmError as error:
            log.warning("containers are shown without their networks: %s", error)
            return {}

    def left(self, containers: Sequence[Container]) -> dict[str, list[dict[str, Any]]]:
        """What those that have run and do not have of `all`: which networks those are that they were on."""
        ended = [each for each in containers if each.state.started and not each.state.status.is_alive]
        ids = self._network_ids() if any(each.networks for each in ended) else {}
        return {
            each.id: [
                {"Network": name, "NetworkId": ids[name], "Ports": []}
                for name in each.networks
                if name in ids
            ]
            for each in ended
        }

    def _network_ids(self) -> dict[str, str]:
        """By name; nothing where cnmd is away."""
        try:
            return {each["Name"]: each["Id"] for each in self._cnmd.ask("GET", "/networks")}
        except CnmError as error:
            log.warning("containers are shown without their networks: %s", error)
            return {}

    def record(self, ident: str) -> dict[str, Any]:
        """cnmd's. Raises NotFound."""
        found: dict[str, Any] = self._cnmd.ask("GET", f"{_PATH}/{ident}")
        return found

    def records(self) -> dict[str, dict[str, Any]]:
        """cnmd's (`cnm.wire.control.Sandbox`) by their ids, those of others too. Raises what cnmd says."""
        return {each["Id"]: each for each in self._cnmd.ask("GET", _PATH)}

    def called(self, reference: str) -> str:
        """The name of a network; what was given where there is none, or nobody to ask: its use will tell."""
        if reference in PREDEFINED:
            return reference
        try:
            return str(self.network(reference)["Name"])
        except CnmError:
            return reference

    def network(self, reference: str) -> dict[str, Any]:
        """As the Engine API shows it. Raises NotFound."""
        found: dict[str, Any] = self._cnmd.ask("GET", f"/networks/{escaped(reference)}")
        return found


def publishes(network: Mapping[str, Any]) -> bool:
    """Whether a network, as the Engine API shows it, leads out, so that ports can be published on it."""
    return network["Driver"] not in ("host", "null") and not network["Internal"]


def hostname(container: Container) -> str:
    """With its domain; "" where it is the host's, or another container's."""
    name, domain = own_name(container), container.config.domainname
    return f"{name}.{domain}" if name and domain else name


def own_name(container: Container) -> str:
    """The same without its domain: what the container's kernel calls it."""
    if container.host.network_mode == "host" and not container.config.hostname:
        return ""
    return container.config.hostname or container.short


def _sandbox(found: Mapping[str, Any], is_host: bool) -> Sandbox:
    return Sandbox(
        "" if is_host else found["NetnsPath"],
        found["HostsPath"],
        found["HostnamePath"],
        found["ResolvConfPath"],
    )


def check_aliases(network: str, settings: EndpointSettings) -> None:
    """Docker's rules for networks that are there from the beginning. Raises InvalidParameter."""
    asked = settings.ipam_config
    if network in PREDEFINED and asked is not None and (asked.ipv4_address or asked.ipv6_address):
        raise InvalidParameter("user specified IP address is supported on user defined networks only")
    if network in PREDEFINED and settings.aliases:
        raise InvalidParameter(
            "network-scoped alias is supported only for containers in user defined networks"
        )
