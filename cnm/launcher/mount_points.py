"""What a container has mounted, read from `-v`, `--mount`, `--tmpfs` and the image: Docker's rules and words.

Source: moby's volume/mounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

import msgspec

from cnm.errors import InvalidParameter
from cnm.launcher.process import clean
from cnm.launcher.tmpfs import tmpfs_data, tmpfs_options
from cnm.wire.containers import Config, HostConfig, Mount


class Kind(Enum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class MountPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One mount as `inspect` tells it, before anything of it exists."""

    kind: Kind
    destination: str
    """Absolute and clean."""
    source: str = ""
    """Of a bind: the path on the host. Of a volume that is there: where its content is, as far as its driver says."""
    name: str = ""
    """Of a volume; "" for an anonymous one that is not there yet."""
    driver: str = ""
    mode: str = ""
    """The words after the second colon of -v."""
    writable: bool = True
    propagation: str = ""
    data: str = ""
    """Of a tmpfs: its options, with commas."""
    create_source: bool = False
    """A missing source of a bind becomes a directory."""
    copies: bool = False
    """A volume that is empty takes what the image has there."""
    asked: Mount = msgspec.field(default_factory=Mount)
    """The request, with the options that only one kind has; empty where the image asks for a volume."""

    @property
    def is_anonymous(self) -> bool:
        """Whether it is a volume that nobody has named."""
        return self.kind is Kind.VOLUME and not self.asked.source


def mount_points(
    config: Config, host_config: HostConfig, inherited: Iterable[MountPoint] = ()
) -> tuple[MountPoint, ...]:
    """All of a container, `inherited` those of `--volumes-from`. Raises InvalidParameter for what contradicts itself.

    What is asked for takes the place of what is inherited, and both that of the image's volumes.
    """
    found = {point.destination: point for point in inherited}
    asked: set[str] = set()
    for point in _asked(host_config):
        if point.destination in asked:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        asked.add(point.destination)
        found[point.destination] = point
    for path in sorted(config.volumes or ()):
        found.setdefault(clean(path), _image_volume(clean(path), host_config.volume_driver or ""))
    return tuple(found.values())


def _image_volume(path: str, driver: str) -> MountPoint:
    return MountPoint(kind=Kind.VOLUME, destination=path, driver=driver, copies=True)


def _asked(host_config: HostConfig) -> Iterator[MountPoint]:
    for text in host_config.binds or ():
        yield parse_bind(text, host_config.volume_driver or "")
    for mount in host_config.mounts or ():
        yield parse_mount(mount)
    for path, data in (host_config.tmpfs or {}).items():
        yield parse_tmpfs(path, data)


def parse_tmpfs(path: str, data: str) -> MountPoint:
    """One `--tmpfs PATH[:OPTIONS]`. Raises InvalidParameter."""
    _check_target(path)
    tmpfs_options(data)
    return MountPoint(kind=Kind.TMPFS, destination=clean(path), data=data)


def parse_bind(text: str, driver: str = "") -> MountPoint:
    """One `-v`: "HOST:CTR[:MODE]", "VOLUME:CTR[:MODE]" or "CTR". Raises InvalidParameter."""
    parts = text.split(":", 3)
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and _valid_mode(parts[1])):
        raise _invalid(text)
    source = parts[0] if len(parts) > 1 else ""
    mode = parts[2] if len(parts) > 2 else ""
    if not _valid_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    kind = Kind.BIND if source.startswith("/") else Kind.VOLUME
    words = mode.split(",")
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if propagation and kind is Kind.VOLUME:
        raise _invalid(text, _wrong(kind.value, "field BindOptions must not be specified"))
    if "nocopy" in words and kind is Kind.BIND:
        raise _invalid(text, _wrong(kind.value, "field VolumeOptions must not be specified"))
    target = parts[min(len(parts), 2) - 1]
    try:
        _check_target(target)
    except InvalidParameter as error:
        raise _invalid(text, _wrong(kind.value, str(error))) from error
    return MountPoint(
        kind=kind,
        destination=clean(target),
        source=clean(source) if kind is Kind.BIND else "",
        name=source if kind is Kind.VOLUME else "",
        driver=driver if kind is Kind.VOLUME else "",
        mode=mode,
        writable="ro" not in words,
        propagation=(propagation or DEFAULT_PROPAGATION) if kind is Kind.BIND else "",
        create_source=kind is Kind.BIND,
        copies=kind is Kind.VOLUME and "nocopy" not in words,
        asked=_as_mount(kind, source, target, words),
    )


def _as_mount(kind: Kind, source: str, target: str, words: list[str]) -> Mount:
    return Mount(type=kind.value, source=source, target=target, read_only="ro" in words)


def _invalid(text: str, why: str = "") -> InvalidParameter:
    return InvalidParameter(f"invalid volume specification: '{text}'" + (f": {why}" if why else ""))


PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
DEFAULT_PROPAGATION = "rprivate"

_MODE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "access": ("ro", "rw"),
    "label": ("z", "Z"),
    "propagation": PROPAGATIONS,
    "copy": ("nocopy",),
    "consistency": ("consistent", "cached", "delegated"),
}
_GROUP_OF = {word: group for group, words in _MODE_GROUPS.items() for word in words}


def _valid_mode(mode: str) -> bool:
    """Words that Docker knows, one of a group at most."""
    if not mode:
        return True
    groups = [_GROUP_OF.get(word) for word in mode.split(",")]
    return None not in groups and len(groups) == len(set(groups))


def parse_mount(mount: Mount) -> MountPoint:
    """One of `HostConfig.Mounts`, which `--mount` becomes. Raises InvalidParameter; looks at no file."""
    kind = mount.type or ""
    target, source = mount.target or "", mount.source or ""
    try:
        if not target:
            raise InvalidParameter("field Target must not be empty")
        _check_target(target)
        match kind:
            case "bind":
                return _bind(mount, source, target)
            case "volume":
                return _volume(mount, source, target)
            case "tmpfs":
                return _tmpfs(mount, target)
        raise InvalidParameter("mount type unknown")
    except InvalidParameter as error:
        raise InvalidParameter(_wrong(kind, str(error))) from error


def _wrong(kind: str, why: str) -> str:
    return f'invalid mount config for type "{kind}": {why}'


def _check_target(path: str) -> None:
    _check_absolute(path)
    if clean(path) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")


def _bind(mount: Mount, source: str, target: str) -> MountPoint:
    if not source:
        raise InvalidParameter("field Source must not be empty")
    options = mount.bind_options
    propagation = (options.propagation if options else "") or DEFAULT_PROPAGATION
    if propagation not in PROPAGATIONS:
        raise InvalidParameter(f"invalid propagation mode: {propagation}")
    if options and options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidParameter("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
    if mount.volume_options is not None:
        raise InvalidParameter("field VolumeOptions must not be specified")
    _check_absolute(source)
    return MountPoint(
        kind=Kind.BIND,
        destination=clean(target),
        source=clean(source),
        writable=not mount.read_only,
        propagation=propagation,
        create_source=bool(options and options.create_mountpoint),
        asked=mount,
    )


def _volume(mount: Mount, source: str, target: str) -> MountPoint:
    if mount.bind_options is not None:
        raise InvalidParameter("field BindOptions must not be specified")
    if mount.read_only and not source:
        raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")
    options = mount.volume_options
    driver = options.driver_config if options else None
    return MountPoint(
        kind=Kind.VOLUME,
        destination=clean(target),
        name=source,
        driver=(driver.name if driver else "") or "",
        writable=not mount.read_only,
        copies=not (options and options.no_copy),
        asked=mount,
    )


def _tmpfs(mount: Mount, target: str) -> MountPoint:
    if mount.bind_options is not None:
        raise InvalidParameter("field BindOptions must not be specified")
    if mount.source:
        raise InvalidParameter("field Source must not be specified")
    data = tmpfs_data(mount.tmpfs_options, read_only=bool(mount.read_only))
    return MountPoint(
        kind=Kind.TMPFS, destination=clean(target), data=data, writable=not mount.read_only, asked=mount
    )


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """(name or id of a container, whether its mounts stay writable) of one `--volumes-from`.

    Raises InvalidParameter; propagation and copying are those of the other container.
    """
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    container, _, mode = text.partition(":")
    words = mode.split(",")
    if not _valid_mode(mode) or any(_GROUP_OF.get(word) in ("propagation", "copy") for word in words):
        raise InvalidParameter(f"invalid mode: {mode}")
    return container, "ro" not in words


def inherited_points(points: Iterable[MountPoint], *, writable: bool) -> tuple[MountPoint, ...]:
    """Another container's, for `--volumes-from`."""
    return tuple(
        msgspec.structs.replace(point, writable=point.writable and writable, copies=False)
        for point in points
        if point.kind is not Kind.TMPFS
    )
