"""Mount points made ready for the runtime: sources that exist, options as the OCI spells them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cnm.errors import InvalidParameter
from cnm.launcher.host import Host
from cnm.launcher.mount_points import DEFAULT_PROPAGATION, Kind, MountPoint
from cnm.launcher.propagation import check_propagation
from cnm.launcher.tmpfs import tmpfs_options

VolumePath = Callable[[MountPoint], str]
"""Where a volume's content is on the host; it is made, or mounted by its driver, when it is asked for."""

_RECURSIVE_READ_ONLY = (5, 12)
"""The kernel that has mount_setattr(2)."""


class Bind(NamedTuple):
    """A mount of the container; `source` is a path on the host."""

    source: str
    target: str
    options: tuple[str, ...]
    type: str = "bind"


def resolve(points: Iterable[MountPoint], volume: VolumePath, host: Host) -> tuple[Bind, ...]:
    """The mounts of a container that starts. Missing sources of `-v` are made as directories.

    Raises InvalidParameter for a source of `--mount` that is absent, and for propagation that the source's own mount
    does not allow; whatever `volume` raises.
    """
    return tuple(_resolved(point, volume, host) for point in points)


def _resolved(point: MountPoint, volume: VolumePath, host: Host) -> Bind:
    if point.kind is Kind.TMPFS:
        return Bind("tmpfs", point.destination, tmpfs_options(point.data), "tmpfs")
    if point.kind is Kind.VOLUME:
        return Bind(volume(point), point.destination, _options(point, host))
    check_source(point)
    if point.create_source:
        _make_source(point.source)
    check_propagation(point.source, point.propagation)
    return Bind(point.source, point.destination, _options(point, host))


def check_source(point: MountPoint) -> None:
    """Raises InvalidParameter where a bind's source is absent and not to be made; also for the API to call early."""
    if point.kind is Kind.BIND and not point.create_source and not os.path.exists(point.source):
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
        )


def _make_source(path: str) -> None:
    """A file in its place, or on the way to it, stays what it is: the runtime says what cannot be mounted."""
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return
    except OSError as error:
        raise InvalidParameter(
            f"error while creating mount source path '{path}': mkdir {error.filename}: "
            f"{(error.strerror or '').lower()}"
        ) from error


def _options(point: MountPoint, host: Host) -> tuple[str, ...]:
    options = point.asked.bind_options
    found = ["bind" if options and options.non_recursive else "rbind"]
    if not point.writable:
        found.append(_read_only(point, host))
    if point.propagation:
        found.append(point.propagation)
    return tuple(found)


def _read_only(point: MountPoint, host: Host) -> str:
    """Mounts below the source are read-only too where the kernel can do that (Docker's rule since 25.0)."""
    options = point.asked.bind_options
    if host.kernel >= _RECURSIVE_READ_ONLY:
        return "ro" if options and options.read_only_non_recursive else "rro"
    if options and options.read_only_force_recursive:
        raise InvalidParameter("recursively read-only mounts need a kernel of 5.12 or newer")
    return "ro"


def network_files(
    files: Mapping[str, str], points: Iterable[MountPoint], *, read_only: bool
) -> tuple[Bind, ...]:
    """Binds of a sandbox's files: the path on the host by that in the container ("/etc/hosts", ...).

    A file for which the user mounts something else is left alone.
    """
    taken = {point.destination for point in points}
    access = ("ro",) if read_only else ()
    return tuple(
        Bind(source, target, ("rbind", *access, DEFAULT_PROPAGATION))
        for target, source in files.items()
        if target not in taken
    )


_LOCKED = {
    os.ST_RDONLY: "ro",
    os.ST_NODEV: "nodev",
    os.ST_NOEXEC: "noexec",
    os.ST_NOSUID: "nosuid",
    os.ST_NOATIME: "noatime",
    os.ST_NODIRATIME: "nodiratime",
}
"""Without relatime, which mount(2) takes where nothing else is said."""


def with_locked_flags(bind: Bind) -> Bind:
    """With the flags of the source's own mount, which nobody in another user namespace may take away."""
    if bind.type != "bind":
        return bind
    flags = os.statvfs(bind.source).f_flag
    locked = [word for flag, word in _LOCKED.items() if flags & flag and word not in bind.options]
    return bind._replace(options=(*bind.options, *locked))
