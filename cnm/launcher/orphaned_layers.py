"""Layers that no image has, and images that were never finished: what a pull, a load or a build that failed has left.

podman does not remove them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from cnm.launcher import image_config
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_index import ImageIndex, digits
from cnm.launcher.image_layout import copy_in, lay_out
from cnm.launcher.layer_blob import Blob
from cnm.launcher.nameless_files import drop_nameless
from cnm.launcher.podman import Podman
from cnm.launcher.registry_client import RegistryClient
from cnm.launcher.storage import Contents, Storage, StoredLayer
from cnm.launcher.working_containers import drop_layers, without_notes


class OrphanedLayers:
    """Of one store."""

    def __init__(self, storage: Storage, index: ImageIndex, podman: Podman, client: RegistryClient) -> None:
        self._storage, self._index, self._podman, self._client = storage, index, podman, client

    def drop(self, kept: Collection[str] = ()) -> None:
        """Those that no image has, but for `kept`; only while nobody adds any. Raises CnmError.

        podman removes layers with images or containers only, so each that has a digest gets an image; what has none,
        and what is in no list, goes by our hand.
        """
        if halves := without_notes(self._storage):
            self._podman.run("rm", "--force", *halves)
        for image in self._index.contents().images:
            if not image.is_finished:
                self._podman.run("rmi", "--no-prune", image.id)
        with disk_errors("cannot remove layers that no image has"):
            drop_layers(self._storage, kept)
            contents = self._index.contents()
            for chain in list(orphans(contents, self._tops(contents), kept)):
                self._drop_chain([Blob(layer.diff_digest, layer.diff_size) for layer in chain])
            drop_nameless(self._storage)

    def _tops(self, contents: Contents) -> list[str]:
        images = [image.layer for image in contents.images]
        return images + [container.layer for container in self._storage.containers()]

    def _drop_chain(self, chain: Sequence[Blob]) -> None:
        with self._client.place() as place:
            document = image_config.of_layers([blob.digest for blob in chain])
            image = lay_out(place, document, image_config.manifest(document, chain))
            copy_in(self._podman, place)
        self._podman.run("rmi", "--no-prune", digits(image))


def orphans(
    contents: Contents, tops: Collection[str], kept: Collection[str]
) -> Iterator[tuple[StoredLayer, ...]]:
    """Chains of layers, the lowest first, whose highest are orphans that no other layer is on.

    `tops`: the topmost layers of images and containers. A layer without a digest is a working container's, and no
    image's: see `working_containers`.
    """
    used = {layer.id for top in tops for layer in contents.chain(top) or ()}
    parents = {layer.parent for layer in contents.layers.values()}
    for ident in contents.layers.keys() - used - parents - set(kept):
        chain = contents.chain(ident)
        if chain and all(layer.diff_digest for layer in chain):
            yield chain
