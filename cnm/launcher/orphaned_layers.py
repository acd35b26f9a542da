"""Layers that no image has, and images that were never finished: what a pull, a load or a build that failed has left.

podman does not remove them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cnm.launcher import image_config
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_index import ImageIndex, digits
from cnm.launcher.image_layout import copy_in, lay_out
from cnm.launcher.nameless_files import drop_nameless
from cnm.launcher.podman import Podman
from cnm.launcher.registry_client import RegistryClient
from cnm.launcher.storage import Contents, Storage, StoredLayer


class OrphanedLayers:
    """Of one store."""

    def __init__(self, storage: Storage, index: ImageIndex, podman: Podman, client: RegistryClient) -> None:
        self._storage, self._index, self._podman, self._client = storage, index, podman, client

    def drop(self, kept: Collection[str] = ()) -> None:
        """Those that no image has, but for `kept`; only while nobody adds any. Raises CnmError.

        podman removes layers with images only, so each gets one. What a kill left half-there goes with any image, and
        what is in no list by our hand.
        """
        for image in self._index.contents().images:
            if not image.is_finished:
                self._podman.run("rmi", "--no-prune", image.id)
        contents = self._index.contents()
        chains = list(orphans(contents, self._tops(contents), kept))
        with disk_errors("cannot remove layers that no image has"):
            for chain in chains or [()] * contents.has_incomplete:
                self._drop_chain(chain)
            drop_nameless(self._storage)

    def _tops(self, contents: Contents) -> list[str]:
        images = [image.layer for image in contents.images]
        return images + [container.layer for container in self._storage.containers()]

    def _drop_chain(self, chain: tuple[StoredLayer, ...]) -> None:
        blobs = [(layer.diff_digest, layer.diff_size) for layer in chain]
        document = image_config.of_layers([digest for digest, _ in blobs])
        with self._client.place() as place:
            image = lay_out(place, document, image_config.manifest(document, blobs))
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
