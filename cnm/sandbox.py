"""A sandbox: one network namespace and the endpoints in it. Plain data and its states."""

from __future__ import annotations

from enum import StrEnum

import msgspec

_SHORT = 12
"""Digits of an id that people see."""


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


class Etc(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for of the files hosts, hostname and resolv.conf; empty where the choice is ours."""

    hostname: str = ""
    """Maybe with its domain: "front.example.com"."""
    dns: tuple[str, ...] = ()
    """Addresses of servers, asked from inside the sandbox."""
    dns_search: tuple[str, ...] = ()
    """Domains; "." for none."""
    dns_options: tuple[str, ...] = ()
    """As "ndots:2", in place of the host's."""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    """(name, address) or (name, HOST_GATEWAY)."""


HOST_GATEWAY = "host-gateway"
"""In place of an address: the host, as the sandbox reaches it."""


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox as stored; `netns` is the path of its namespace file, "" for the host's own."""

    id: str
    name: str
    kind: SandboxKind
    netns: str
    created: str
    state: SandboxState
    labels: dict[str, str] = {}
    etc: Etc = Etc()

    @property
    def hostname(self) -> str:
        """As Docker has it: the short id where none was asked for; nothing in the host's own namespace."""
        if self.kind is SandboxKind.HOST:
            return ""
        return self.etc.hostname or self.id[:_SHORT]
