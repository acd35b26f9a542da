"""A container's root file system: an overlay of its own over its image's layers.

Mounted by mount(2), some milliseconds, where buildah takes ten times as long for the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from cnm.errors import CnmError, NotBuilt, Unavailable
from cnm.kernel import mounting
from cnm.launcher import user_namespaces
from cnm.launcher.changes import Change, changes, written
from cnm.launcher.deleting import delete
from cnm.launcher.disk import refusal
from cnm.launcher.modes import UserMapping
from cnm.launcher.overlays import Seen, look_up
from cnm.launcher.storage import layer_directory, short_link

_OPTIONS = "index=off,metacopy=off,redirect_dir=off"
"""As Docker has them: what a layer holds is to be read without the layers below it."""
_LONGEST_DATA = 4095
"""Of mount(2): a page, with the byte that ends it."""

_BEFOREHAND: tuple[tuple[str, str], ...] = (
    *((path, "dir") for path in ("dev/pts", "dev/shm", "proc", "sys")),
    *(
        (path, "file")
        for path in (".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf")
    ),
    ("etc/mtab", "/proc/mounts"),
)
"""What Docker lays over every image (daemon/initlayer of 20.10): mounts find their place there, and are no changes."""


class Rootfs:
    """The files of one container. What is made lies below `place`, which must exist:

    `rootfs` (where it is mounted), `rw/upper` and `rw/work` (what the container writes), `rw/init` (what is laid over
    the image before that), `mapped` (for as long as it is being mounted).

    In a user namespace (`mapping`) the layers' owners are shifted by the kernel, and what is written has the shifted
    ones on the disk.
    """

    def __init__(
        self, place: str, storage: str, layers: Sequence[str], mapping: UserMapping | None = None
    ) -> None:
        """`storage` is the graph root, `layers` the ids of the image's layers, the lowest first."""
        self.mapping = mapping
        self.path = os.path.join(place, "rootfs")
        self.upper = os.path.join(place, "rw", "upper")
        self._place = place
        self._storage = storage
        self._layers = tuple(reversed(layers))
        self._work = os.path.join(place, "rw", "work")
        self._init = os.path.join(place, "rw", "init")
        self._mapped = os.path.join(place, "mapped")

    def mount(self) -> str:
        """Where the root file system is mounted from now on; as it is where it was. Raises CnmError saying why not."""
        if os.path.ismount(self.path):
            return self.path
        try:
            self._prepare()
            if self.mapping is None:
                self._mount()
            else:
                self._mount_mapped(self.mapping)
        except OSError as error:
            raise CnmError(f"cannot mount the root file system {self.path}: {refusal(error)}") from None
        return self.path

    def unmount(self) -> None:
        """Nothing mounted is fine; one in use is detached."""
        mounting.unmount_all(self.path)
        self._detach_mapped()

    def remove(self) -> None:
        """Unmounts it and deletes what the container wrote; nothing there is fine."""
        self.unmount()
        delete(os.path.dirname(self.upper))
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return

    def changes(self) -> list[Change]:
        """What differs from the image, as Docker's diff has it; none where the container was never mounted."""
        return changes(self.upper, self._lowers(), self.mapping) if os.path.isdir(self.upper) else []

    def size(self) -> int:
        """Bytes of what the container wrote."""
        return written(self.upper) if os.path.isdir(self.upper) else 0

    def _lowers(self) -> tuple[str, ...]:
        return (self._init, *self._image())

    def _image(self) -> tuple[str, ...]:
        return tuple(layer_directory(self._storage, layer) for layer in self._layers)

    def _prepare(self) -> None:
        for path in (self.path, self.upper, self._work):
            os.makedirs(path, mode=0o755, exist_ok=True)
        os.chmod(self.upper, 0o755)  # the root directory's mode inside
        if self.mapping is not None:
            _check_reachable(self.path)
            if os.stat(self.upper).st_uid == 0:
                os.chown(self.upper, self.mapping.host_id, self.mapping.host_id)
        if not os.path.isdir(self._init):
            self._lay_beforehand()

    def _lay_beforehand(self) -> None:
        """Renamed when it is whole, so that one half made is made anew."""
        fresh = f"{self._init}.new"
        delete(fresh)
        os.mkdir(fresh, 0o755)
        image = self._image()
        for path, kind in _BEFOREHAND:
            _lay(fresh, path, kind, image)
        os.rename(fresh, self._init)

    def _lower_names(self) -> Iterator[str]:
        """Of the image's layers, from the directory of links; user namespaces may put mapped mounts of them here."""
        return (short_link(self._storage, layer) for layer in self._layers)

    def _mount(self) -> None:
        """By short links from a working directory: long paths of many layers exceed what mount(2) takes."""
        links = os.path.join(self._storage, "overlay", "l")
        lower = ":".join([self._init, *self._lower_names()])
        data = f"lowerdir={lower},upperdir={self.upper},workdir={self._work},{_OPTIONS}"
        if len(os.fsencode(data)) > _LONGEST_DATA:
            raise CnmError(
                f"cannot mount the root file system {self.path}: {len(self._layers)} layers are too many"
            )
        mounting.in_directory(links, lambda: mounting.mount("overlay", self.path, "overlay", data))

    def _mount_mapped(self, mapping: UserMapping) -> None:
        """Over mounts of the layers with shifted owners, which the overlay keeps when they are detached again."""
        self._detach_mapped()
        lowers = self._lowers()
        with ExitStack() as undo:
            undo.callback(self._detach_mapped)
            users = undo.enter_context(user_namespaces.opened(mapping))
            try:
                for number, directory in enumerate(lowers):
                    target = os.path.join(self._mapped, str(number))
                    os.makedirs(target, mode=0o700)
                    mounting.bind_mapped(directory, target, users)
                lower = ":".join(map(str, range(len(lowers))))
                data = f"lowerdir={lower},upperdir={self.upper},workdir={self._work},{_OPTIONS}"
                mounting.in_directory(
                    self._mapped, lambda: mounting.mount("overlay", self.path, "overlay", data)
                )
            except OSError as error:
                raise NotBuilt(
                    f"cannot mount the root file system {self.path} for a user namespace: {error.strerror}: "
                    f"{error.filename}: idmapped mounts need Linux 5.19 and a file system that has them: use "
                    "--userns host"
                ) from None

    def _detach_mapped(self) -> None:
        if not os.path.isdir(self._mapped):
            return
        for name in os.listdir(self._mapped):
            target = os.path.join(self._mapped, name)
            mounting.unmount_all(target)
            os.rmdir(target)
        os.rmdir(self._mapped)


def _check_reachable(path: str) -> None:
    """Root of a user namespace is nobody on the way to its files. Raises Unavailable."""
    directory = path
    while directory != "/":
        directory = os.path.dirname(directory)
        if not os.stat(directory).st_mode & stat.S_IXOTH:
            raise Unavailable(
                f"user namespaces cannot reach {path}: {directory} is closed to other users: chmod o+x {directory}"
            )


def _lay(init: str, path: str, kind: str, image: tuple[str, ...]) -> None:
    """One of `_BEFOREHAND`. Directories that the image has keep its modes and owners, since the upper one's count."""
    seen, below = _directories(init, os.path.dirname(path), image)
    target = os.path.join(init, path)
    if kind == "file":
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755))
    elif kind != "dir":
        os.symlink(kind, target)
    elif not _is_directory(look_up(below, os.path.basename(path))) and not os.path.isdir(target):
        os.mkdir(target, 0o755)
    for directory, origin in reversed(seen):
        _copy_times(origin, directory)


def _directories(
    init: str, path: str, image: tuple[str, ...]
) -> tuple[list[tuple[str, Seen]], tuple[str, ...]]:
    """Makes a directory of the init layer: which ones the image has too, and what its layers have there."""
    made, below, found = init, image, []
    for name in filter(None, path.split("/")):
        made = os.path.join(made, name)
        origin = look_up(below, name)
        below = origin.directories if origin else ()
        if not os.path.isdir(made):
            os.mkdir(made, 0o755)
            if origin is not None and _is_directory(origin):
                os.chown(made, origin.status.st_uid, origin.status.st_gid)
                os.chmod(made, stat.S_IMODE(origin.status.st_mode))
        if origin is not None and _is_directory(origin):
            found.append((made, origin))
    return found, below


def _copy_times(origin: Seen, directory: str) -> None:
    os.utime(directory, ns=(origin.status.st_atime_ns, origin.status.st_mtime_ns))


def _is_directory(seen: Seen | None) -> bool:
    return seen is not None and stat.S_ISDIR(seen.status.st_mode)
