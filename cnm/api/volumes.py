"""/cnm/v1/volumes: volumes that all hosts of the cluster reach, which launchers tell each other of this way."""

from __future__ import annotations

from cnm.api.routes import Call, Routes
from cnm.cluster import records
from cnm.cluster.volumes import Users
from cnm.errors import InvalidParameter
from cnm.wire.volumes import SharedVolume, SharedVolumes, VolumeRemoval, VolumeTaken

NOBODY: Users = {}
_LONGEST = 255

routes = Routes()


@routes.get("/cnm/v1/volumes", answer=SharedVolumes)
def list_volumes(call: Call[None]) -> SharedVolumes:
    """List the volumes that all hosts of the cluster reach, with the containers that have them."""
    volumes, node = call.backend.shared_volumes, call.backend.node_name
    return SharedVolumes(node=node, volumes=[_shown(known.volume, known.users) for known in volumes.all()])


@routes.put("/cnm/v1/volumes", body=VolumeTaken, answer=SharedVolume)
def take_volume(call: Call[VolumeTaken]) -> SharedVolume:
    """Tell the cluster of a volume, and which containers of this host have it."""
    asked = call.body
    _check(asked.driver, asked.name)
    volume = records.SharedVolume(
        driver=asked.driver,
        name=asked.name,
        created=asked.created,
        options=asked.options,
        labels=asked.labels,
    )
    return _shown(call.backend.shared_volumes.take(volume, asked.containers, new=asked.new))


@routes.post("/cnm/v1/volumes/removal", body=VolumeRemoval, status=204)
def remove_volume(call: Call[VolumeRemoval]) -> None:
    """Remove a volume of the whole cluster, before and after its driver does: refused while a host has it."""
    asked, volumes = call.body, call.backend.shared_volumes
    _check(asked.driver, asked.name)
    if asked.step == "begin":
        volumes.begin_removal(asked.driver, asked.name)
    elif asked.step in ("removed", "kept"):
        removed = asked.step == "removed"
        volumes.end_removal(asked.driver, asked.name, removed=removed, created=asked.created)
    else:
        raise InvalidParameter(f"invalid step {asked.step[:40]!r}: it is begin, removed or kept")


def _check(driver: str, name: str) -> None:
    """Raises InvalidParameter."""
    for what, given in (("Driver", driver), ("Name", name)):
        if not 0 < len(given) <= _LONGEST:
            raise InvalidParameter(f"{what} has between 1 and {_LONGEST} characters")


def _shown(volume: records.SharedVolume, users: Users = NOBODY) -> SharedVolume:
    return SharedVolume(
        driver=volume.driver,
        name=volume.name,
        created=volume.created,
        options=volume.options,
        labels=volume.labels,
        users={node: list(containers) for node, containers in users.items()},
    )
