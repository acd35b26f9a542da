"""Layers that no image has, and images that were never finished: what a pull, a load or a build that failed has left.

podman does not remove them.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterator, Sequence

from cnm.launcher import image_config
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_index import ImageIndex, digits
from cnm.launcher.image_layout import copy_in, lay_out
from cnm.launcher.layer_blob import Blob, written
from cnm.launcher.nameless_files import drop_nameless
from cnm.launcher.packing import END
from cnm.launcher.podman import Podman
from cnm.launcher.registry_client import RegistryClient
from cnm.launcher.storage import Contents, Storage, StoredLayer


class OrphanedLayers:
    """Of one store."""

    def __init__(self, storage: Storage, index: ImageIndex, podman: Podman, client: RegistryClient) -> None:
        self._storage, self._index, self._podman, self._client = storage, index, podman, client

    def drop(self, kept: Collection[str] = ()) -> None:
        """Those that no image has, but for `kept`; only while nobody adds any. Raises CnmError.

        podman removes layers with images only, so each gets one. What is flagged as incomplete it removes when it adds
        a layer, and no sooner; what is in no list goes by our hand.
        """
        for image in self._index.contents().images:
            if not image.is_finished:
                self._podman.run("rmi", "--no-prune", image.id)
        contents = self._index.contents()
        chains = list(orphans(contents, self._tops(contents), kept))
        with disk_errors("cannot remove layers that no image has"):
            if contents.has_incomplete:
                self._add_and_drop()
            for chain in chains:
                self._drop_chain([Blob(layer.diff_digest, layer.diff_size) for layer in chain])
            drop_nameless(self._storage)

    def _tops(self, contents: Contents) -> list[str]:
        images = [image.layer for image in contents.images]
        return images + [container.layer for container in self._storage.containers()]

    def _add_and_drop(self) -> None:
        """A layer that is like no other."""
        with self._client.place() as place:
            fresh = written(place, [tarfile.TarInfo(os.path.basename(place)).tobuf(), END])
            self._drop(place, [fresh])

    def _drop_chain(self, chain: Sequence[Blob]) -> None:
        with self._client.place() as place:
            self._drop(place, chain)

    def _drop(self, place: str, chain: Sequence[Blob]) -> None:
        """`place` has those that the store has not."""
        document = image_config.of_layers([blob.digest for blob in chain])
        image = lay_out(place, document, image_config.manifest(document, chain))
        copy_in(self._podman, place)
        self._podman.run("rmi", "--no-prune", digits(image))


def orphans(
    contents: Contents, tops: Collection[str], kept: Collection[str]
) -> Iterator[tuple[StoredLayer, ...]]:
    """Chains of layers, the lowest first, whose highest are orphans that no other layer is on.

    `tops`: the topmost layers of images and containers. A layer without a digest is somebody's who works on it, and no
    orphan.
    """
    used = {layer.id for top in tops for layer in contents.chain(top) or ()}
    parents = {layer.parent for layer in contents.layers.values()}
    for ident in contents.layers.keys() - used - parents - set(kept):
        chain = contents.chain(ident)
        if chain and all(layer.diff_digest for layer in chain):
            yield chain
