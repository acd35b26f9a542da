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


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox as stored; `netns` is the path of its namespace file, "" for the host's own."""

    id: str
    name: str
    kind: SandboxKind
    netns: str
    created: str
    state: SandboxState
    labels: dict[str, str] = {}
    hostname: str = ""
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
