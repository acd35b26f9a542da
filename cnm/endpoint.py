"""An endpoint: one attachment point of a network, joined to at most one sandbox. Plain data and its states."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EndpointState(StrEnum):
    """`CREATED` and `JOINED` are at rest; the others are intents: start-up undoes or finishes them."""

    CREATED = "created"
    JOINING = "joining"
    """Undone to CREATED."""
    CONNECTING = "connecting"
    """Created and joined in one verb; undone to nothing."""
    JOINED = "joined"
    LEAVING = "leaving"
    """Finished to CREATED."""
    DELETING = "deleting"
    """Finished to nothing."""


TRANSITIONS: dict[EndpointState, frozenset[EndpointState]] = {
    EndpointState.CREATED: frozenset({EndpointState.JOINING, EndpointState.DELETING}),
    EndpointState.JOINING: frozenset({EndpointState.JOINED, EndpointState.CREATED}),
    EndpointState.CONNECTING: frozenset({EndpointState.JOINED}),
    EndpointState.JOINED: frozenset({EndpointState.LEAVING, EndpointState.DELETING}),
    EndpointState.LEAVING: frozenset({EndpointState.CREATED}),
    EndpointState.DELETING: frozenset(),
}


class Protocol(StrEnum):
    """Transport protocols that ports can be published for."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class PortMapping(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A published port, or `count` consecutive ones, as realised.

    `host_address` "" means every address of the host, both families. `host_port` 0 occurs only in requests
    (any free port) and where nothing is bound on the host (gateway mode routed).
    """

    protocol: Protocol
    container_port: int
    host_port: int = 0
    host_address: str = ""
    count: int = 1


class PortRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port as asked for: host ports `host_port`..`host_port_end`, 0 for any free one."""

    protocol: Protocol = Protocol.TCP
    container_port: int
    container_port_end: int = 0
    """0: the same as `container_port`."""
    host_port: int = 0
    host_port_end: int = 0
    host_address: str = ""


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as asked for; "" and empty where the choice is ours. Addresses are bare text (no prefix)."""

    name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    ifname: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(name of another sandbox on the network, what only this one calls it)."""
    gw_priority: int = 0
    options: dict[str, str] = {}
    ports: tuple[PortRequest, ...] = ()
    id: str = ""
    """Given by its network's owner; "" for one of our choice."""


class StaticRoute(msgspec.Struct, frozen=True, omit_defaults=True):
    """A route that an active driver wants in the sandbox: `destination` CIDR text, `next_hop` "" for on the link."""

    destination: str
    next_hop: str = ""


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the program behind an active driver answered to the join, for as long as the endpoint is joined."""

    link: str = ""
    """Name of the link that it made in the host's namespace, "" for none."""
    prefix: str = ""
    """What the link is called in the sandbox, before its number."""
    gateway_ipv4: str = ""
    gateway_ipv6: str = ""
    routes: tuple[StaticRoute, ...] = ()
    programmed: bool = False
    """It was told to be the sandbox's way out, and which ports are published."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint as stored. `ipv4` and `ipv6` are CIDR text with the subnet's prefix length, "" where none."""

    id: str
    name: str
    network_id: str
    state: EndpointState = EndpointState.CREATED
    sandbox_id: str = ""
    ifname: str = ""
    """Name of the interface in the sandbox; given by the user or chosen at join, "" where dockerd chooses it."""
    ifname_given: bool = False
    mac: str = ""
    mac_given: bool = False
    ipv4: str = ""
    ipv6: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    options: dict[str, str] = {}
    gw_priority: int = 0
    port_requests: tuple[PortRequest, ...] = ()
    """What is published while the endpoint is joined, as it was asked for."""
    ports: tuple[PortMapping, ...] = ()
    """What is published now."""
    attachment: Attachment | None = None
    moved: bool = False
    """Joined by a link that was made on the host, for dockerd to move it into its sandbox."""
