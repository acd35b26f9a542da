"""What a container sees of the host's files and devices: -v, --mount, --tmpfs, --device, in Docker's grammar."""

from __future__ import annotations

import os

from cnm.cli.amounts import size
from cnm.cli.flags import BOOLEAN, listing
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_KEYS = {
    "type": "Type",
    "source": "Source",
    "src": "Source",
    "target": "Target",
    "dst": "Target",
    "destination": "Target",
    "readonly": "ReadOnly",
    "ro": "ReadOnly",
    "consistency": "Consistency",
}
_FLAGS = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
"""Keys that may stand without a value, which is then true."""

_RECURSIVE: dict[str, dict[str, bool]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def fields(text: str) -> list[str]:
    """The fields of one line of comma-separated values; one with a comma inside stands in quotes."""
    if '"' not in text:
        return text.split(",")
    import _csv

    try:
        found: list[str] = next(_csv.reader([text], strict=True))
    except (_csv.Error, StopIteration):
        raise ValueError(f"malformed quotes in '{text}'") from None
    return found


def mount(text: str) -> dict[str, Any]:
    """A Mount of the Engine API from `type=bind,src=/a,dst=/b,readonly`; a volume where no type is given.

    Raises ValueError with Docker's words.
    """
    found: dict[str, Any] = {"Type": "volume"}
    for field in fields(text):
        key, equals, value = field.partition("=")
        if not equals and key.lower() not in _FLAGS:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        _set(found, key.lower(), value if equals else "true", field)
    if not found["Type"]:
        raise ValueError("type is required")
    if not found.get("Target"):
        raise ValueError("target is required")
    _check_options(found)
    return found


def _set(found: dict[str, Any], key: str, value: str, field: str) -> None:
    kind, _, option = key.partition("-")
    if key in _KEYS:
        name = _KEYS[key]
        found[name] = _plain_value(name, key, value)
    elif option in _OPTIONS.get(kind, {}):
        _OPTIONS[kind][option](found.setdefault(f"{kind.capitalize()}Options", {}), key, value)
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _plain_value(name: str, key: str, value: str) -> Any:
    if name == "ReadOnly":
        return _truth(key, value)
    if name == "Source" and (value == "." or value.startswith("./")):
        return os.path.abspath(value)
    return value if name in ("Source", "Target") else value.lower()


def _truth(key: str, value: str) -> bool:
    try:
        return bool(BOOLEAN.add(False, value))
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _set_recursive(options: dict[str, Any], key: str, value: str) -> None:
    if value not in _RECURSIVE:
        raise ValueError(
            f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )
    options |= _RECURSIVE[value]


def _set_size(options: dict[str, Any], key: str, value: str) -> None:
    try:
        options["SizeBytes"] = size(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _set_mode(options: dict[str, Any], key: str, value: str) -> None:
    if not value or set(value) - set("01234567") or int(value, 8) >= 2**32:
        raise ValueError(f"invalid value for {key}: {value}")
    options["Mode"] = int(value, 8)


def _put(options: dict[str, Any], text: str) -> None:
    name, _, value = text.partition("=")
    if name:
        options[name] = value


_OPTIONS: dict[str, dict[str, Callable[[dict[str, Any], str, str], Any]]] = {
    "bind": {
        "propagation": lambda options, key, value: options.update(Propagation=value.lower()),
        "nonrecursive": lambda options, key, value: options.update(NonRecursive=_truth(key, value)),
        "recursive": _set_recursive,
    },
    "volume": {
        "nocopy": lambda options, key, value: options.update(NoCopy=_truth(key, value)),
        "subpath": lambda options, key, value: options.update(Subpath=value),
        "label": lambda options, key, value: _put(options.setdefault("Labels", {}), value),
        "driver": lambda options, key, value: options.setdefault("DriverConfig", {}).update(Name=value),
        "opt": lambda options, key, value: _put(
            options.setdefault("DriverConfig", {}).setdefault("Options", {}), value
        ),
    },
    "tmpfs": {"size": _set_size, "mode": _set_mode},
}
"""What follows `bind-`, `volume-` and `tmpfs-`."""


def _check_options(found: dict[str, Any]) -> None:
    for kind in _OPTIONS:
        if f"{kind.capitalize()}Options" in found and found["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{found['Type']}'")
    options = found.get("BindOptions", {})
    for name, value in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if options.get(name) and not found.get("ReadOnly"):
            raise ValueError(
                f"option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"
            )
    if options.get("ReadOnlyForceRecursive") and options.get("Propagation") != "rprivate":
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )


MOUNTS = listing(mount, "mount")


def binds_and_volumes(specs: list[str]) -> tuple[list[str], dict[str, Any]]:
    """`Binds` and `Volumes` of the Engine API: `SOURCE:TARGET[:OPTIONS]` is a bind, TARGET alone a new volume.

    Raises InvalidParameter with Docker's words.
    """
    binds: list[str] = []
    volumes: dict[str, Any] = {}
    for spec in dict.fromkeys(specs):
        if not spec:
            raise InvalidParameter("invalid empty volume spec")
        parts = spec.split(":")
        if len(spec) > 2 and "" in parts:
            raise InvalidParameter(f"invalid spec: {spec}: empty section between colons")
        if len(spec) <= 2 or len(parts) == 1:
            volumes[spec] = {}
        else:
            source = os.path.abspath(parts[0]) if parts[0].startswith(".") else parts[0]
            binds.append(":".join([source, *parts[1:]]))
    return binds, volumes


def tmpfs(specs: list[str]) -> dict[str, str]:
    """`Tmpfs` of the Engine API: options by target."""
    return {target: options for target, _, options in (spec.partition(":") for spec in specs)}


def device(spec: str) -> dict[str, str]:
    """A DeviceMapping of the Engine API from `PATH[:PATH-INSIDE][:rwm]`.

    Raises InvalidParameter with Docker's words.
    """
    parts = spec.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidParameter(f"bad format for path: {spec}")
    if len(parts) == 3 and not _is_access(parts[2]):
        raise InvalidParameter(f"bad mode specified: {parts[2]}")
    access = parts[-1] if len(parts) > 1 and _is_access(parts[-1]) else "rwm"
    inside = parts[1] if len(parts) > 1 and not (len(parts) == 2 and _is_access(parts[1])) else parts[0]
    if not inside.startswith("/"):
        raise InvalidParameter(f"{inside} is not an absolute path")
    if len(parts) == 3:
        return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": access}
    outside = parts[0] if inside is not parts[0] else os.path.normpath(parts[0])
    return {
        "PathOnHost": outside,
        "PathInContainer": os.path.normpath(inside),
        "CgroupPermissions": access,
    }


def _is_access(text: str) -> bool:
    return text != "" and len(set(text)) == len(text) and set(text) <= set("rwm")
