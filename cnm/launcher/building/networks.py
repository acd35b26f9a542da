"""The network of RUN steps: none, the host's, another container's, or a cnm network by a sandbox of the build's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnm.errors import InvalidParameter
from cnm.launcher.cnmd import Cnmd, escaped
from cnm.launcher.modes import shared_with
from cnm.launcher.sandboxes import Sandboxes

_PATH = "/cnm/v1/sandboxes"
_SHORT = 12
_DEFAULTS = ("", "default")


def has_sandbox(mode: str) -> bool:
    """Whether a network mode takes a sandbox of the build's own."""
    return mode != "host" and not shared_with(mode)


def enter(
    mode: str,
    build: str,
    hosts: Sequence[str],
    cnmd: Cnmd,
    sandboxes: Sandboxes,
    running: Callable[[str], str],
) -> tuple[str, ...]:
    """podman's options for a network mode; `leave` undoes it.

    `build` is 64 hex digits, `hosts` NAME:ADDRESS to be known, `running` finds the id of a container that runs.
    Raises what cnmd says, NotFound for a network or a container that is not there; nothing is left then.
    """
    if mode == "host":
        return ("--network", mode, *(f"--add-host={each}" for each in hosts))
    if container := shared_with(mode):
        return _inside(sandboxes, running(container))
    network = "bridge" if mode in _DEFAULTS else mode
    wanted: dict[str, Any] = {"Id": build, "Name": f"build-{build[:_SHORT]}", "Hostname": build[:_SHORT]}
    wanted |= {"ExtraHosts": list(hosts), "Labels": {}}
    cnmd.ask("POST", _PATH, wanted)
    try:
        cnmd.ask("POST", f"/networks/{escaped(network)}/connect", {"Container": build})
    except BaseException:
        sandboxes.remove(build)
        raise
    return _inside(sandboxes, build)


def leave(build: str, sandboxes: Sandboxes) -> None:
    """Raises what cnmd says; a sandbox that is not there is no error."""
    sandboxes.remove(build)


def _inside(sandboxes: Sandboxes, ident: str) -> tuple[str, ...]:
    found = sandboxes.find(ident)
    if not found.netns:
        raise InvalidParameter(
            "a build cannot share a container's network that is the host's: use --network host"
        )
    # Of two files for one place, its own and another, podman takes either: it must make none.
    return (
        *("--network", f"ns:{found.netns}"),
        *("--no-hosts", "--volume", f"{found.hosts}:/etc/hosts"),
        *("--dns=none", "--volume", f"{found.resolv_conf}:/etc/resolv.conf"),
    )
