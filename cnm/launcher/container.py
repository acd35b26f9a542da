"""The container as it is kept: what was asked for, and how it stands."""

from __future__ import annotations

import posixpath
from enum import Enum

import msgspec

from cnm.launcher.mount_points import Kind, MountPoint, mount_points
from cnm.wire.containers import Config, HostConfig
from cnm.wire.engine import EndpointSettings

SHORT = 12
"""Hex digits of a short id."""


class Status(Enum):
    """Docker's names. CREATING and REMOVING are intents: what a crash leaves of one is undone, or done."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"
    """It could not be removed wholly."""

    @property
    def is_alive(self) -> bool:
        """Whether there are processes, perhaps frozen ones."""
        return self in (Status.RUNNING, Status.PAUSED)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a container stands. Times are nanoseconds since 1970, 0 for never."""

    status: Status = Status.CREATED
    pid: int = 0
    """Of its first process, in the launcher's namespace; 0 where there is none."""
    pid_started: int = 0
    """The process' start time in clock ticks since boot (proc(5), stat, field 22): pids are used again."""
    monitor_pid: int = 0
    """conmon's."""
    monitor_started: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started: int = 0
    finished: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    """By stop or kill: `unless-stopped` leaves it so, and no policy starts it again."""
    takes_volumes: bool = False
    """With its removal, which has begun, go the anonymous volumes that nobody else has."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A change replaces the record; the parts that clients sent are never changed in place."""

    id: str
    """64 hex digits; its sandbox's too."""
    name: str
    """Without Docker's leading slash."""
    created: int
    """Nanoseconds since 1970."""
    image: str
    """Id, "sha256:" and 64 hex digits; the name that was asked for is `config.image`."""
    layers: tuple[str, ...]
    """Ids of the image's layers in containers-storage, the lowest first."""
    config: Config
    """With the image's defaults in it."""
    host: HostConfig
    networks: dict[str, EndpointSettings]
    """What was asked of each network, by its name, in the order of joining."""
    args: tuple[str, ...]
    """Entrypoint and command."""
    state: State = State()
    driver: str = "overlay2"
    runtime: str = "runc"
    mounts: tuple[MountPoint, ...] | None = None
    """With the names of its volumes; None in records of before there were volumes: as asked for."""

    @property
    def points(self) -> tuple[MountPoint, ...]:
        """What it has mounted."""
        return mount_points(self.config, self.host) if self.mounts is None else self.mounts

    @property
    def volumes(self) -> list[str]:
        """Names, each once."""
        found = (point.name for point in self.points if point.kind is Kind.VOLUME and point.name)
        return list(dict.fromkeys(found))

    @property
    def cgroup(self) -> str:
        """Path of its own, below each hierarchy's mount."""
        return posixpath.join(self.host.cgroup_parent or "/", self.id)

    @property
    def short(self) -> str:
        return self.id[:SHORT]
