"""What no list of containers-storage's names: a podman that was killed had made it, or was removing it.

podman never looks for it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress

from cnm.kernel import mounting
from cnm.launcher.deleting import delete
from cnm.launcher.storage import Storage

log = logging.getLogger("cnm.launcher")

_ID = re.compile(r"[0-9a-f]{64}")
_SPLIT = ".tar-split.gz"
"""How the headers of a layer's tar are kept, beside the list of layers."""


def drop_nameless(storage: Storage) -> None:
    """Only while nobody adds layers. Raises CnmError for a damaged list, OSError for what cannot be deleted."""
    layers = {layer.id for layer in storage.all_layers()}
    images = {image.id for image in storage.read().images}
    containers = {each.id for each in storage.containers()}
    for folder, known in (
        ("overlay", layers),
        ("overlay-images", images),
        ("overlay-containers", containers),
    ):
        for path in _unknown(os.path.join(storage.root, folder), known):
            drop_folder(path)
    for path in _unknown(os.path.join(storage.root, "overlay-layers"), layers, _SPLIT):
        _unlink(path)
    _drop_dangling(os.path.join(storage.root, "overlay", "l"))


def drop_folder(path: str) -> None:
    """Of a layer, an image or a container; nothing there is fine. Raises OSError."""
    log.warning("%s is nobody's: it goes", path)
    mounting.unmount_all(os.path.join(path, "merged"))
    delete(path)


def _unknown(folder: str, known: Collection[str], ending: str = "") -> Iterator[str]:
    for name in _names(folder):
        ident = name.removesuffix(ending)
        if name.endswith(ending) and _ID.fullmatch(ident) and ident not in known:
            yield os.path.join(folder, name)


def _drop_dangling(links: str) -> None:
    """Short names of layers' directories that are gone."""
    for name in _names(links):
        path = os.path.join(links, name)
        if not os.path.exists(path):
            _unlink(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):  # podman was quicker
        os.unlink(path)
