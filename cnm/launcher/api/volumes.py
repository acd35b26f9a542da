"""Volumes: made, shown and removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cnm.api import filters
from cnm.api.routes import Routes
from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.api.calls import Call
from cnm.launcher.present import moment
from cnm.launcher.volumes.size import UNKNOWN_SIZE
from cnm.launcher.volumes.volume import Volume
from cnm.wire.keys import docker_key

routes = Routes()

_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"all", "label", "label!"})
_SIZE_SECONDS = 1.0
"""For which the docker CLI's `volume inspect`, which does not ask for sizes, waits for one."""
_ONLY_ANONYMOUS_SINCE = (1, 42)
"""A prune takes those with names only where all are asked for, since Docker 23.0."""


class VolumeCreate(msgspec.Struct, kw_only=True, rename=docker_key):
    """POST /volumes/create; "" as a name asks for one."""

    name: str | None = ""
    driver: str | None = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


@routes.get(
    "/volumes",
    query={
        "filters": 'JSON: `{"dangling": ["true"]}`; also name, driver and label',
        "size": "with sizes, and what inspecting one tells",
    },
)
def list_volumes(call: Call[None]) -> dict[str, Any]:
    """List volumes, those that no container has, too."""
    wanted = filters.decode(call.query.get("filters", ""), _FILTERS)
    selects = _selector(call, wanted)
    found = call.engine.parts.volumes.all()
    shown = []
    for volume in filter(selects, found.volumes):
        path, told = found.paths.get(volume.name, ""), found.statuses.get(volume.name, {})
        shown.append(_in_full(call, volume, path, told) if call.flag("size") else _shown(call, volume, path))
    return {"Volumes": shown, "Warnings": found.warnings or None}


def _selector(call: Call[None], wanted: filters.Filters) -> Callable[[Volume], bool]:
    unused = filters.dangling(wanted)
    names, drivers, labels = (
        filters.patterns(wanted.get("name", ())),
        wanted.get("driver", ()),
        wanted.get("label"),
    )
    use = call.engine.parts.volumes.use

    def selects(volume: Volume) -> bool:
        return (
            names(volume.name)
            and (not drivers or volume.driver in drivers)
            and filters.has_labels(volume.labels or {}, labels or ())
            and (unused is None or unused is not bool(use.of(volume.name)))
        )

    return selects


def volumes_with_sizes(call: Call[Any]) -> list[dict[str, Any]]:
    """Every volume, for what sums them up; -1 for sizes that are not this host's."""
    found = call.engine.parts.volumes.all()
    size = call.engine.parts.volumes.size
    return [_shown(call, volume, found.paths.get(volume.name, ""), size(volume)) for volume in found.volumes]


def _shown(call: Call[Any], volume: Volume, path: str, size: int | None = None) -> dict[str, Any]:
    """`size` in bytes, or UNKNOWN_SIZE; None where it is not to be told."""
    found: dict[str, Any] = {
        "CreatedAt": moment(volume.created),
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": path,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": volume.scope.value,
    }
    if size is not None:
        users = len(call.engine.parts.volumes.use.of(volume.name))
        found["UsageData"] = {"RefCount": users, "Size": size}
    return found


@routes.get("/volumes/{volume}", query={"size": "with its size and how many containers have it"})
def inspect_volume(call: Call[None], volume: str) -> dict[str, Any]:
    """Inspect a volume: `Status` says its size, which containers have it, or have it mounted, and its last use."""
    volumes = call.engine.parts.volumes
    found = volumes.find(volume)
    try:
        told: Mapping[str, Any] = volumes.kept(found).status
    except CnmError as error:
        told = {"Error": str(error)}
    path = volumes.path(found)
    if call.flag("size"):
        return _in_full(call, found, path, told)
    status = _status(call, found, told, volumes.size(found, _SIZE_SECONDS))
    return {**_shown(call, found, path), "Status": status}


def _in_full(call: Call[None], volume: Volume, path: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """However long its size takes."""
    size = call.engine.parts.volumes.size(volume)
    return {**_shown(call, volume, path, size), "Status": _status(call, volume, told, size)}


def _status(call: Call[None], volume: Volume, told: Mapping[str, Any], size: int) -> dict[str, Any]:
    """What its driver says of it (`told`), and what the launcher knows."""
    volumes = call.engine.parts.volumes
    last = volumes.last_use(volume.name)
    own = {"Size": size if size != UNKNOWN_SIZE else "unknown"} if volume.is_own else {}
    elsewhere = volumes.used_elsewhere(volume)
    return {
        **told,
        **own,
        **({"UsedElsewhere": elsewhere} if elsewhere else {}),
        "LastUsedAt": moment(last) if last else "",
        "MountedBy": _names(call, volumes.mounted_by(volume.name)),
        "UsedBy": _names(call, volumes.use.of(volume.name)),
    }


def _names(call: Call[None], idents: list[str]) -> list[str]:
    """Containers by their names; one that goes meanwhile by its id."""
    known = {each.id: each.name for each in call.engine.registry.all()}
    return sorted(known.get(ident, ident) for ident in idents)


@routes.post("/volumes/create", body=VolumeCreate, status=201)
def create_volume(call: Call[VolumeCreate]) -> dict[str, Any]:
    """Create a volume; one of this name that is there is the answer."""
    wanted = call.body
    made, _ = call.engine.volumes.create(
        wanted.name or "", wanted.driver or "", wanted.driver_opts, wanted.labels
    )
    return _shown(call, made, call.engine.parts.volumes.path(made))


@routes.delete("/volumes/{volume}", status=204, query={"force": "one that is not there is fine"})
def remove_volume(call: Call[None], volume: str) -> None:
    """Remove a volume and everything in it."""
    call.engine.parts.volumes.remove(volume, force=call.flag("force"))


@routes.post(
    "/volumes/prune",
    query={"filters": 'JSON: `{"label": ["x"], "all": ["true"]}`; all: those with names, too'},
)
def prune_volumes(call: Call[None]) -> dict[str, Any]:
    """Remove volumes that no container has: anonymous ones, up to API 1.41 those with names, too."""
    wanted = filters.decode(call.query.get("filters", ""), _PRUNE_FILTERS)
    everything = _asks_for_all(wanted.get("all", ())) or call.version < _ONLY_ANONYMOUS_SINCE
    with_labels, without = wanted.get("label", ()), wanted.get("label!", ())

    def selects(volume: Volume) -> bool:
        labels = volume.labels or {}
        return (
            (everything or volume.is_anonymous)
            and filters.has_labels(labels, with_labels)
            and not (without and filters.has_labels(labels, without))
        )

    removed, space = call.engine.parts.volumes.prune(selects)
    return {"VolumesDeleted": removed, "SpaceReclaimed": space}


def _asks_for_all(values: tuple[str, ...]) -> bool:
    """Raises InvalidParameter in Docker's words."""
    if any(value not in ("1", "true", "0", "false") for value in values) or len(values) > 1:
        raise InvalidParameter(f"invalid filter 'all={list(values)}'")
    return values in (("1",), ("true",))
