"""Two OCI configurations compared: order and ways of writing that mean the same are no difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """`where` is a path of keys with dots; None stands for absent."""

    where: str
    docker: Any
    ours: Any


def differences(docker: dict[str, Any], ours: dict[str, Any]) -> list[Difference]:
    return sorted(_compared("", _normal(docker), _normal(ours)), key=lambda found: found.where)


def _compared(where: str, docker: Any, ours: Any) -> Iterator[Difference]:
    if all(side is None or isinstance(side, dict) for side in (docker, ours)):
        docker, ours = docker or {}, ours or {}
        for key in sorted(docker.keys() | ours.keys()):
            yield from _compared(f"{where}.{key}".lstrip("."), docker.get(key), ours.get(key))
    elif docker != ours:
        yield Difference(where, docker, ours)


def _normal(config: dict[str, Any]) -> dict[str, Any]:
    """Lists whose order says nothing become mappings by their key; what is empty is left out."""
    found = json.loads(json.dumps(config))
    linux = found["linux"]
    found["mounts"] = {mount["destination"]: _mount(mount) for mount in found["mounts"]}
    linux["namespaces"] = {space["type"]: space.get("path") or "new" for space in linux["namespaces"]}
    linux["devices"] = {device["path"]: device for device in linux.get("devices") or []}
    capabilities = found["process"]["capabilities"]
    found["process"]["capabilities"] = {kind: sorted(set(names)) for kind, names in capabilities.items()}
    found["process"]["user"]["additionalGids"] = sorted(
        set(found["process"]["user"].get("additionalGids", []))
    )
    rlimits = found["process"].get("rlimits") or []
    found["process"]["rlimits"] = {limit["type"]: limit for limit in rlimits}
    if linux.get("seccomp"):
        linux["seccomp"]["syscalls"] = sorted(map(_rule, linux["seccomp"]["syscalls"]))
    for kind in ("maskedPaths", "readonlyPaths"):
        linux[kind] = sorted(linux.get(kind) or [])
    return dict(_without_empty(found))


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    return {**mount, "options": sorted(mount["options"])}


def _rule(rule: dict[str, Any]) -> str:
    return json.dumps({**rule, "names": sorted(rule["names"])}, sort_keys=True)


def _without_empty(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Go's marshalling writes null, false, nothing, or an empty list, for the same absence; 0 is something."""
    for key, inner in value.items():
        kept = dict(_without_empty(inner)) if isinstance(inner, dict) else inner
        if kept or (kept == 0 and kept is not False):
            yield key, kept
