"""Records of /cnm/v1/volumes: volumes that all hosts of a cluster reach, as launchers tell cnmd and ask it."""

from __future__ import annotations

import msgspec

from cnm.wire.keys import docker_key


class _Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """A record with keys in Docker's style."""


class _Request(_Record, kw_only=True, forbid_unknown_fields=True):
    """A record that a client sends."""


class VolumeTaken(_Request, kw_only=True):
    """Body of PUT /cnm/v1/volumes: a volume, and the ids of this host's containers that have it.

    `created` is in nanoseconds since 1970, 0 where nobody knows; it counts, as options and labels do, where the cluster
    does not know the volume yet. `new`: it was just made, and is told of where no container has it, too.
    """

    driver: str
    name: str
    created: int = 0
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    containers: list[str] = []
    new: bool = False


class VolumeRemoval(_Request, kw_only=True):
    """Body of POST /cnm/v1/volumes/removal; `step` is begin, then removed, or kept where its driver did not do it.

    `created` is the volume's own, as in `SharedVolume`: another volume of its name is not meant.
    """

    driver: str
    name: str
    step: str
    created: int = 0


class SharedVolume(_Record, kw_only=True):
    """A volume as the cluster knows it; `users` are ids of containers by node."""

    driver: str
    name: str
    created: int
    options: dict[str, str] | None
    labels: dict[str, str] | None
    users: dict[str, list[str]] = {}


class SharedVolumes(_Record, kw_only=True):
    """Answer of GET /cnm/v1/volumes; `node` is this host's name."""

    node: str
    volumes: list[SharedVolume]
