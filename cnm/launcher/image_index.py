"""Which images there are, read from containers-storage's own files; two stat calls where nothing changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from cnm.errors import NotFound
from cnm.launcher import image_config
from cnm.launcher.image_config import Image
from cnm.launcher.references import Reference, familiar, identifier, parse
from cnm.launcher.repo_digests import RepoDigests
from cnm.launcher.storage import Contents, Storage, StoredImage

log = logging.getLogger(__name__)

_HIDDEN = "removed.invalid/image"


class _Known(NamedTuple):
    version: tuple[int, ...]
    images: tuple[Image, ...]
    removed: frozenset[str]
    """Ids of those that only containers need."""
    contents: Contents


class ImageIndex:
    """The images of a store, as of now whenever it is asked."""

    def __init__(self, storage: Storage, digests: RepoDigests) -> None:
        self._storage, self._digests = storage, digests
        self._known = _Known((), (), frozenset(), Contents((), {}))
        self._reading = threading.Lock()

    def images(self) -> list[Image]:
        """All but those that were removed while containers need their layers."""
        known = self._read()
        return [image for image in known.images if image.id not in known.removed]

    def removed(self) -> list[Image]:
        """Those that were."""
        known = self._read()
        return [image for image in known.images if image.id in known.removed]

    def contents(self) -> Contents:
        """What the store says itself."""
        return self._read().contents

    def holders(self) -> dict[str, str]:
        """The image of each name."""
        return {name: image.id for image in self._read().images for name in image.names}

    def whole(self, image: str) -> Image:
        """The image of an id, also one that was removed. Raises NotFound."""
        return _only([known for known in self._read().images if known.id == image], image)

    def find(self, reference: str) -> Image:
        """The image of a name, a name with a tag or a digest, an id, or the beginning of one.

        Raises NotFound and InvalidParameter in Docker's words.
        """
        images = self.images()
        if whole := identifier(reference):
            return _only([image for image in images if image.id == whole], whole)
        name = parse(reference).with_tag
        if name.digest:
            found = [image for image in images if _has(image, name)]
        else:
            found = [image for image in images if str(name) in image.names]
        if not found and (beginning := reference.removeprefix("sha256:")):
            found = [image for image in images if image.id.startswith(f"sha256:{beginning}")]
        return _only(found, familiar(str(name)))

    def _read(self) -> _Known:
        with self._reading:
            if self._version() != self._known.version or not self._known.version:
                version = self._version()
                contents = self._storage.read()
                removed = frozenset(
                    f"sha256:{stored.id}" for stored in contents.images if _is_removed(stored)
                )
                self._known = _Known(version, tuple(self._images(contents)), removed, contents)
            return self._known

    def _version(self) -> tuple[int, ...]:
        return (*self._storage.version(), self._digests.version)

    def _names(self, stored: StoredImage) -> tuple[str, ...]:
        return tuple(sorted((*_tags(stored), *self._digests.of(f"sha256:{stored.id}"))))

    def _images(self, contents: Contents) -> Iterator[Image]:
        """One whose layers are not whole, as after a power cut, is no image."""
        before = {image.id: image for image in self._known.images}
        for stored in contents.images:
            layers = contents.chain(stored.layer)
            if layers is None:
                log.warning("image %s lacks a layer: remove it and load it again", stored.id)
                continue
            known = before.get(f"sha256:{stored.id}")
            if known is not None:
                yield msgspec.structs.replace(known, names=self._names(stored))
            elif document := self._document(stored):
                yield image_config.read(document, stored, self._names(stored), layers)

    def _document(self, stored: StoredImage) -> bytes:
        """b"" for what is no image but a list of them, or was removed meanwhile."""
        try:
            return self._storage.big_data(stored.id, f"sha256:{stored.id}")
        except FileNotFoundError:
            return b""


def _only(found: Sequence[Image], shown: str) -> Image:
    if len(found) != 1:
        raise NotFound(f"No such image: {shown}")
    return found[0]


def _has(image: Image, name: Reference) -> bool:
    """By a digest: one of its repository's."""
    return f"{name.repository}@{name.digest}" in image.names


def _tags(stored: StoredImage) -> list[str]:
    """Without names by digest, which podman gives what was pulled by one."""
    return [name for name in stored.names if name != hidden_name(stored.id) and "@" not in name]


def _is_removed(stored: StoredImage) -> bool:
    return hidden_name(stored.id) in stored.names and not _tags(stored)


def hidden_name(image: str) -> str:
    """Of an image that was removed while stopped containers need its layers."""
    return f"{_HIDDEN}:{digits(image)}"


def digits(image: str) -> str:
    """The 64 hex digits of an image's id: what podman calls it by."""
    return image.removeprefix("sha256:")
