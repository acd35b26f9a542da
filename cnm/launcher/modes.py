"""`--network`, `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`: whose namespace a container is in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from cnm.errors import InvalidParameter
from cnm.wire.containers import HostConfig

_HOST = "host"


def is_host(mode: str | None) -> bool:
    return mode == _HOST


def shared_with(mode: str | None) -> str:
    """The name or id of the container whose namespace is shared, "" for none."""
    kind, _, container = (mode or "").partition(":")
    return container if kind == "container" else ""


def is_private(mode: str | None) -> bool:
    """Neither the host's nor another container's."""
    return not is_host(mode) and not (mode or "").startswith("container:")


def shared_namespaces(host_config: HostConfig, pid_of: Callable[[str], int]) -> dict[str, str]:
    """`Inside.namespaces` but for "user": "host", or the path of a container's, by "pid", "ipc" and "uts".

    `pid_of` gives the first process of a container by its name or id, and raises where it does not run.
    """
    modes = {"pid": host_config.pid_mode, "ipc": host_config.ipc_mode, "uts": host_config.uts_mode}
    found = {kind: _HOST for kind, mode in modes.items() if is_host(mode)}
    joined = {kind: container for kind, mode in modes.items() if (container := shared_with(mode))}
    return found | {kind: f"/proc/{pid_of(container)}/ns/{kind}" for kind, container in joined.items()}


def check_modes(host_config: HostConfig) -> None:
    """Raises InvalidParameter for a mode that there is not."""
    ipc, pid = host_config.ipc_mode or "", host_config.pid_mode or ""
    if ipc not in ("", _HOST, "none", "private", "shareable") and not shared_with(ipc):
        raise InvalidParameter(f"invalid IPC mode: {ipc}")
    if pid not in ("", _HOST) and not shared_with(pid):
        raise InvalidParameter(f"invalid PID mode: {pid}")
    if (host_config.uts_mode or "") not in ("", _HOST):
        raise InvalidParameter(f"invalid UTS mode: {host_config.uts_mode}")
    if (host_config.cgroupns_mode or "") not in ("", _HOST, "private"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host_config.cgroupns_mode}")
    user_mapping(host_config.userns_mode)


class UserMapping(NamedTuple):
    """Users 0 to `size`-1 inside are `host_id` and following ones outside; groups too."""

    host_id: int
    size: int

    def outside(self, inside: int) -> int:
        """Raises InvalidParameter for an id that the mapping does not have."""
        if not 0 <= inside < self.size:
            raise InvalidParameter(
                f"id {inside} is not in the container's user namespace, which has {self.size}"
            )
        return self.host_id + inside

    def inside(self, outside: int) -> int:
        """Ids that are not mapped stay as they are: files of the image's."""
        return outside - self.host_id if 0 <= outside - self.host_id < self.size else outside


DEFAULT_MAPPING = UserMapping(100_000, 65_536)
_IDS = 2**32 - 1
"""One less than there are: the last means "no id"."""


def user_mapping(mode: str | None) -> UserMapping | None:
    """What "host" or "private[:HOSTUID:SIZE]" says; None for the host's users. Raises InvalidParameter."""
    if mode in (None, "", _HOST):
        return None
    if mode == "private":
        return DEFAULT_MAPPING
    found = re.fullmatch(r"private:(\d{1,10}):(\d{1,10})", mode or "")
    if found is None:
        raise InvalidParameter(f"invalid userns mode: {mode}: it is host or private[:HOSTUID:SIZE]")
    mapping = UserMapping(int(found[1]), int(found[2]))
    if mapping.host_id == 0 or mapping.size == 0 or mapping.host_id + mapping.size > _IDS:
        raise InvalidParameter(
            f"invalid userns mode: {mode}: HOSTUID and SIZE are at least 1, and HOSTUID+SIZE at most {_IDS}"
        )
    return mapping
