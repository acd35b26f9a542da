"""A new container's volumes are filled with what its image has at their places: Docker's populateVolumes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from cnm.errors import InvalidParameter
from cnm.kernel.openat2 import open_in_root
from cnm.launcher.container import Container
from cnm.launcher.mount_points import Kind, MountPoint
from cnm.launcher.rootfs import Rootfs
from cnm.launcher.volumes.volumes import Volumes


def fill(volumes: Volumes, rootfs: Rootfs, container: Container) -> None:
    """Those that are empty, and are to be filled. Raises CnmError.

    `rootfs` is the container's, which nobody else knows yet; it is mounted where there is something to do.
    """
    wanted = [point for point in container.points if point.kind is Kind.VOLUME and point.copies]
    if wanted := [point for point in wanted if volumes.may_be_empty(point.name)]:
        try:
            root = rootfs.mount()
            for point in wanted:
                _fill(volumes, point, root, container.id)
        finally:
            rootfs.unmount()


def _fill(volumes: Volumes, point: MountPoint, root: str, user: str) -> None:
    with _opened(root, point.destination) as source:
        if source is not None:
            volumes.fill(point.name, user, source)


@contextlib.contextmanager
def _opened(root: str, path: str) -> Iterator[int | None]:
    """A descriptor of a directory of the image; None where it has nothing there. Raises InvalidParameter for a file."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = open_in_root(top, path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise InvalidParameter(f"source {root}{path} is not directory") from error
    finally:
        os.close(top)
    try:
        yield found
    finally:
        if found is not None:
            os.close(found)
