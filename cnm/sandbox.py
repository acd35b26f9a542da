"""A sandbox: one network namespace and the endpoints in it. Plain data and its states."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class SandboxKind(StrEnum):
    """Whose namespace it is: made by us, given by its path (never deleted by us), the host's, or dockerd's."""

    OWN = "own"
    GIVEN = "given"
    HOST = "host"
    DOCKERD = "dockerd"
    """A container's, known by Docker's sandbox key; it may not exist yet, and its default routes are dockerd's."""


class SandboxState(StrEnum):
    """`CREATING` and `DELETING` are intents: start-up undoes the first and finishes the second."""

    CREATING = "creating"
    ACTIVE = "active"
    DELETING = "deleting"


TRANSITIONS: dict[SandboxState, frozenset[SandboxState]] = {
    SandboxState.CREATING: frozenset({SandboxState.ACTIVE, SandboxState.DELETING}),
    SandboxState.ACTIVE: frozenset({SandboxState.DELETING}),
    SandboxState.DELETING: frozenset(),
}


HOST_GATEWAY = "host-gateway"
"""Docker's word, in place of an address, for one at which the host answers."""

_SHORT = 12
"""Hex digits of a short id."""


class ExtraHost(msgspec.Struct, frozen=True):
    """A line of /etc/hosts that was asked for; the address is canonical text, or HOST_GATEWAY."""

    name: str
    address: str


class Resolution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for of a sandbox's hosts, hostname and resolv.conf; empty where the defaults serve."""

    hostname: str = ""
    """As given, with its domain after the first dot."""
    servers: tuple[str, ...] = ()
    """Canonical addresses, in place of the host's DNS servers; asked from the sandbox."""
    search: tuple[str, ...] = ()
    """Search domains in place of the host's; "." alone: none."""
    options: tuple[str, ...] = ()
    """Options of resolv.conf(5) in place of the host's."""
    extra_hosts: tuple[ExtraHost, ...] = ()

    @property
    def overrides_dns(self) -> bool:
        """Whether resolv.conf differs from the host's on purpose."""
        return bool(self.servers or self.search or self.options)


NOTHING_ASKED = Resolution()


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox as stored; `netns` is the path of its namespace file, "" for the host's own."""

    id: str
    name: str
    kind: SandboxKind
    netns: str
    created: str
    state: SandboxState
    labels: dict[str, str] = {}
    resolution: Resolution = NOTHING_ASKED

    @property
    def hostname(self) -> str:
        """By default the short id, as in Docker. "" where it is not ours to give: the host's, and dockerd's."""
        if self.resolution.hostname or self.kind in (SandboxKind.HOST, SandboxKind.DOCKERD):
            return self.resolution.hostname
        return self.id[:_SHORT]
