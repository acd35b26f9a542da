"""Which images there are, read from containers-storage's own files; two stat calls where nothing changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from cnm.errors import CnmError, NotFound
from cnm.launcher import image_config
from cnm.launcher.image_config import Image
from cnm.launcher.image_notes import ImageNotes
from cnm.launcher.references import Reference, familiar, identifier, parse
from cnm.launcher.repo_digests import RepoDigests
from cnm.launcher.storage import Contents, Storage, StoredImage, StoredLayer

log = logging.getLogger(__name__)

_HIDDEN = "removed.invalid/image"


class Damaged(NamedTuple):
    """What the store has of an image that no container can be made from: it is not listed, and can be removed."""

    id: str
    """ "sha256:" and 64 hex digits."""
    names: tuple[str, ...]
    """As an image's."""
    why: str


Found = TypeVar("Found", Image, Damaged)


class _Known(NamedTuple):
    version: tuple[int, ...]
    images: tuple[Image, ...]
    damaged: tuple[Damaged, ...]
    removed: frozenset[str]
    """Ids of those that only containers need."""
    contents: Contents


class ImageIndex:
    """The images of a store, as of now whenever it is asked."""

    def __init__(self, storage: Storage, digests: RepoDigests, parents: ImageNotes[str]) -> None:
        """`parents`: of images that do not say themselves what they were made from."""
        self._storage, self._digests, self._parents = storage, digests, parents
        self._known = _Known((), (), (), frozenset(), Contents((), {}))
        self._reading = threading.Lock()

    def images(self) -> list[Image]:
        """All but those that were removed while containers need their layers."""
        known = self._read()
        return [image for image in known.images if image.id not in known.removed]

    def removed(self) -> list[Image]:
        """Those that were."""
        known = self._read()
        return [image for image in known.images if image.id in known.removed]

    def damaged(self) -> list[Damaged]:
        """Those that are no images any more, as after a power cut."""
        return list(self._read().damaged)

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
        return _called(reference, self.images())

    def find_damaged(self, reference: str) -> Damaged:
        """The same of what is no image any more. Raises as `find`."""
        return _called(reference, self.damaged())

    def _read(self) -> _Known:
        with self._reading:
            if self._version() != self._known.version or not self._known.version:
                version = self._version()
                contents = self._storage.read()
                removed = frozenset(
                    f"sha256:{stored.id}" for stored in contents.images if _is_removed(stored)
                )
                found = list(self._images(contents))
                damaged = tuple(each for each in found if isinstance(each, Damaged))
                if self._version() == version:
                    self._tell(damaged)
                images = tuple(each for each in found if isinstance(each, Image))
                self._known = _Known(version, images, damaged, removed, contents)
            return self._known

    def _tell(self, damaged: Sequence[Damaged]) -> None:
        """Once of each."""
        for each in set(damaged) - set(self._known.damaged):
            log.warning("image %s is damaged: %s: remove it, and get it again", each.id, each.why)

    def _version(self) -> tuple[int, ...]:
        return (*self._storage.version(), self._digests.version, self._parents.version)

    def _names(self, stored: StoredImage) -> tuple[str, ...]:
        return tuple(sorted((*_tags(stored), *self._digests.of(f"sha256:{stored.id}"))))

    def _images(self, contents: Contents) -> Iterator[Image | Damaged]:
        """Without what is being made still."""
        before = {image.id: image for image in self._known.images}
        for stored in (each for each in contents.images if each.is_finished):
            layers = contents.chain(stored.layer)
            known = before.get(f"sha256:{stored.id}")
            if layers is None:
                yield self._damaged(stored, "it lacks a layer")
            elif known is not None:
                yield self._noted(known, stored)
            else:
                yield self._fresh(stored, layers)

    def _fresh(self, stored: StoredImage, layers: Sequence[StoredLayer]) -> Image | Damaged:
        """One that is removed meanwhile counts as damaged until the store is read again, with the next call."""
        try:
            document = self._storage.big_data(stored.id, f"sha256:{stored.id}")
            return self._noted(image_config.read(document, stored, (), layers), stored)
        except FileNotFoundError:
            return self._damaged(stored, "it has no configuration")
        except OSError as error:
            return self._damaged(stored, f"its configuration cannot be read: {error.strerror}")
        except CnmError as error:
            return self._damaged(stored, str(error))

    def _noted(self, image: Image, stored: StoredImage) -> Image:
        parent = self._parents.of(image.id, image.parent)
        return msgspec.structs.replace(image, names=self._names(stored), parent=parent)

    def _damaged(self, stored: StoredImage, why: str) -> Damaged:
        return Damaged(f"sha256:{stored.id}", self._names(stored), why)


def _called(reference: str, images: Sequence[Found]) -> Found:
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


def _only(found: Sequence[Found], shown: str) -> Found:
    if len(found) != 1:
        raise NotFound(f"No such image: {shown}")
    return found[0]


def _has(image: Image | Damaged, name: Reference) -> bool:
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
