"""New images that podman cannot make as Docker does: from a tar, and from what a container has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from cnm.errors import InvalidParameter
from cnm.launcher import image_config
from cnm.launcher.container import Container
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_config import Image, Platform
from cnm.launcher.image_index import digits
from cnm.launcher.image_layout import copy_in, lay_out
from cnm.launcher.image_store import ImageStore
from cnm.launcher.instructions import changed
from cnm.launcher.layer_blob import Blob, changes_of, chunks, decompressed, require_tar, written
from cnm.launcher.modes import user_mapping
from cnm.launcher.references import normalised, parse
from cnm.launcher.requests import merged
from cnm.wire.containers import Config


class ImageMaker:
    """Thread-safe."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def import_tar(
        self, archive: BinaryIO, reference: str, changes: Sequence[str], message: str, platform: str = ""
    ) -> str:
        """A new image of one layer, a tar, compressed or not; its id. `reference` may be "", `platform` as Docker's.

        Raises InvalidParameter for a reference, a change, a platform or a tar that is wrong, CnmError.
        """
        if reference and parse(reference).digest:
            raise InvalidParameter("cannot import digest reference")
        name = normalised(reference) if reference else ""
        config, wanted = changed(Config(), changes), Platform.parse(platform)
        with (
            disk_errors("cannot import"),
            self._store.client.place() as place,
            decompressed(archive) as stream,
        ):
            blob = written(place, chunks(stream))
            require_tar(os.path.join(place, digits(blob.digest)))
            document = image_config.derived(
                None, config, blob.digest, author="", comment=message, created_by="", platform=wanted
            )
            return self._take_in(place, document, [blob], name)

    def commit(
        self,
        container: Container,
        upper: str,
        reference: str,
        author: str,
        message: str,
        changes: Sequence[str],
        config: Config | None = None,
    ) -> str:
        """A new image of a container's image and what it changed, the overlay's directory `upper`; its id.

        `config` before the container's. Whoever calls sees to it that the container rests meanwhile. Raises NotFound
        where its image is gone, InvalidParameter for a reference or a change that is wrong, CnmError.
        """
        name = normalised(reference) if reference else ""
        wanted = changed(_before(config, container.config), changes)
        parent, below = self._base(container)
        with disk_errors("cannot commit"), self._store.client.place() as place:
            blob = written(place, changes_of(upper, user_mapping(container.host.userns_mode)))
            document = image_config.derived(
                parent,
                wanted,
                "" if blob.is_empty else blob.digest,
                author=author,
                comment=message,
                created_by=" ".join(_words(container.config.cmd) or ()),
            )
            return self._take_in(place, document, below if blob.is_empty else [*below, blob], name)

    def _base(self, container: Container) -> tuple[Image, list[Blob]]:
        """A container's image, and its layers as blobs that the store has."""
        image = self._store.index.whole(container.image)
        stored = self._store.index.contents().layers
        layers = [stored[layer] for layer in image.layers]
        return image, [Blob(layer.diff_digest, layer.diff_size) for layer in layers]

    def _take_in(self, place: str, document: bytes, layers: Sequence[Blob], name: str) -> str:
        """`place` holds the blobs that are new."""
        manifest = image_config.manifest(document, [(layer.digest, layer.size) for layer in layers])
        image = lay_out(place, document, manifest)
        with self._store.in_work.needing(()):  # until it has its name
            with self._store.adding():
                copy_in(self._store.podman, place)
            with self._store.renaming:
                self._store.show(image)
                if name:
                    self._store.tag(image, name)
                    self._store.note_tag(image)
        return image


def _before(config: Config | None, container: Config) -> Config:
    """What a client says, and else the container's; as documents have it: lists, where clients may have sent a text."""
    plain = msgspec.structs.replace(
        container, cmd=_words(container.cmd), entrypoint=_words(container.entrypoint)
    )
    return merged(config, plain) if config else plain


def _words(command: list[str] | str | None) -> list[str] | None:
    return [command] if isinstance(command, str) else command
