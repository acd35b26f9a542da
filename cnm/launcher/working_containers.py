"""podman's working containers, in which steps of builds are done, and the halves of them that it may leave.

It makes a layer, then the container, then its notes; it removes them in no order, each from a list that a full disk may
not let it write. Of what a kill or a full disk has left of one it takes no notice afterwards, but for what it has
flagged as incomplete, which goes when it adds the next layer (containers/storage, layers.go: Load).
"""

from __future__ import annotations

import os
from collections.abc import Collection

from cnm.launcher.nameless_files import drop_folder
from cnm.launcher.storage import Storage


def notes(root: str, container: str) -> str:
    """The path of what podman knows of a working container's build; `root` is the graph root."""
    return os.path.join(root, "overlay-containers", container, "userdata", "buildah.json")


def without_notes(storage: Storage) -> list[str]:
    """Ids of those that were just made, or of which a part is gone. Raises CnmError for a damaged list."""
    return [each.id for each in storage.containers() if not os.path.exists(notes(storage.root, each.id))]


def drop_layers(storage: Storage, kept: Collection[str] = ()) -> None:
    """Layers without a container, and those that are incomplete, but for `kept`.

    Whoever makes or removes one has the list locked until it is whole or gone, and until its container is noted, or
    forgotten (containers/storage, store.go: CreateContainer, DeleteContainer, PutLayer). The files go first, since the
    list may need their room. Raises CnmError for a damaged list, OSError for what cannot be deleted or written.
    """
    if not _nobodys(storage, kept):
        return
    with storage.layers_locked():
        found = _nobodys(storage, kept)
        for layer in found:
            drop_folder(os.path.join(storage.root, "overlay", layer))
        storage.forget_layers(found)


def _nobodys(storage: Storage, kept: Collection[str]) -> list[str]:
    """Those that no list names; a layer of an image that is whole has a digest."""
    layers = storage.all_layers()
    images = storage.read().images
    named = {
        *kept,
        *(layer.parent for layer in layers),
        *(layer for image in images for layer in (image.layer, *image.mapped_layers)),
        *(container.layer for container in storage.containers()),
    }
    return [
        each.id for each in layers if each.id not in named and (each.is_incomplete or not each.diff_digest)
    ]
