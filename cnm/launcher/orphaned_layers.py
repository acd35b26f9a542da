"""Layers that no image has: what a pull, a load or a build that failed had brought; podman does not remove them.

They go when nothing is being brought any more, since what is on its way belongs to no image either.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import msgspec

from cnm.errors import CnmError
from cnm.launcher.storage import Contents, StoredLayer

log = logging.getLogger(__name__)


class _StoredContainer(msgspec.Struct):
    """An entry of containers.json (containers/storage, containers.go): builds have them."""

    layer: str = ""


_CONTAINERS = msgspec.json.Decoder(list[_StoredContainer])


class LayersOnTheirWay:
    """Thread-safe. Whoever brings layers does it in `adding`."""

    def __init__(self, known: Callable[[], Collection[str]], drop: Callable[[Collection[str]], None]) -> None:
        """`known` gives the ids of the layers that there are, `drop` removes orphans but for those that it is given."""
        self._known, self._drop = known, drop
        self._lock = threading.Lock()
        self._count = 0
        self._before: Collection[str] = ()
        self._failed = False

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Where the block fails, what it left goes, once nobody else adds any more."""
        with self._lock:
            if not self._count:
                self._before, self._failed = self._known(), False
            self._count += 1
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._lock:
                self._count -= 1
                if not self._count and self._failed:
                    self._clear()

    def _clear(self) -> None:
        """Why something failed is what counts, and what stays now goes at the next start."""
        try:
            self._drop(self._before)
        except CnmError as error:
            log.warning("layers that no image has stay: %s", error)


def orphans(root: str, contents: Contents, kept: Collection[str]) -> Iterator[tuple[StoredLayer, ...]]:
    """Chains of layers, the lowest first, whose highest are orphans that no other layer is on. `root`: the graph root.

    A layer without a digest is somebody's who works on it, and no orphan.
    """
    tops = [image.layer for image in contents.images] + _of_containers(root)
    used = {layer.id for top in tops for layer in contents.chain(top) or ()}
    parents = {layer.parent for layer in contents.layers.values()}
    for ident in contents.layers.keys() - used - parents - set(kept):
        chain = contents.chain(ident)
        if chain and all(layer.diff_digest for layer in chain):
            yield chain


def _of_containers(root: str) -> list[str]:
    try:
        with open(os.path.join(root, "overlay-containers", "containers.json"), "rb") as file:
            return [each.layer for each in _CONTAINERS.decode(file.read() or b"[]")]
    except FileNotFoundError:
        return []
