"""What containers-storage keeps on the disk, read without its programs: images, their layers, where these lie.

The files' form: containers/storage, images.go and layers.go. Its programs replace them by renaming, so that a file that
was opened is whole; that the two lists belong together is seen by reading again until neither has changed meanwhile.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec

from cnm.errors import CnmError
from cnm.launcher.disk import replace

T = TypeVar("T")

_ATTEMPTS = 100
_MANIFEST = "manifest"
_PLAIN_NAME = re.compile(r"[a-z0-9.]+")


class StoredImage(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of images.json."""

    id: str
    digest: str = ""
    names: tuple[str, ...] = ()
    layer: str = ""
    """The topmost; "" for an image without any."""
    mapped_layers: tuple[str, ...] = msgspec.field(name="mapped-layers", default=())
    """The same, shifted for user namespaces."""
    created: str = ""
    big_data_digests: dict[str, str] = msgspec.field(name="big-data-digests", default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether it has got its configuration, and then its manifest (containers/image, storage_dest.go)."""
        return self.big_data_digests.keys() >= {f"sha256:{self.id}", _MANIFEST}


class StoredLayer(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of layers.json."""

    id: str
    parent: str = ""
    diff_digest: str = msgspec.field(name="diff-digest", default="")
    """Of the tar, uncompressed: "sha256:" and 64 hex digits."""
    diff_size: int = msgspec.field(name="diff-size", default=0)
    """Bytes of the tar, uncompressed."""
    flags: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def is_incomplete(self) -> bool:
        """Whether somebody makes it, or was killed amid that (containers/storage, layers.go: incompleteFlag)."""
        return self.flags.get("incomplete") is True


class StoredContainer(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of containers.json: steps of builds work in them, and nothing else here."""

    id: str
    image: str = ""
    """Hex digits; "" for one that was made from nothing."""
    layer: str = ""


class Contents(NamedTuple):
    """One state of a store."""

    images: tuple[StoredImage, ...]
    layers: dict[str, StoredLayer]
    """Those that are whole."""

    def chain(self, layer: str) -> tuple[StoredLayer, ...] | None:
        """A layer and those below it, the lowest first; None where one is missing."""
        found: list[StoredLayer] = []
        while layer:
            if layer not in self.layers or len(found) > len(self.layers):
                return None
            found.append(self.layers[layer])
            layer = found[-1].parent
        return tuple(reversed(found))


_IMAGES = msgspec.json.Decoder(list[StoredImage])
_LAYERS = msgspec.json.Decoder(list[StoredLayer])
_CONTAINERS = msgspec.json.Decoder(list[StoredContainer])
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
_NOTHING = (b"", b"null")
"""What stands for an empty list."""


class Storage:
    """A graph root with the overlay driver."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._images = os.path.join(root, "overlay-images")
        self._layers = os.path.join(root, "overlay-layers")

    def version(self) -> tuple[int, ...]:
        """Differs from an earlier one whenever the lists may."""
        return (*_stamp(self._path_of_images), *_stamp(self._path_of_layers))

    def read(self) -> Contents:
        """All images and layers. Raises CnmError where a list is damaged or does not come to rest."""
        for _ in range(_ATTEMPTS):
            before = self.version()
            images = self._decoded(self._path_of_images, _IMAGES)
            layers = self._decoded(self._path_of_layers, _LAYERS)
            if self.version() == before:
                whole = {layer.id: layer for layer in layers if not layer.is_incomplete}
                return Contents(tuple(images), whole)
        raise CnmError(f"the image store {self.root} changes faster than it can be read: try again")

    def containers(self) -> list[StoredContainer]:
        """Raises CnmError where a list is damaged."""
        folder = os.path.join(self.root, "overlay-containers")
        paths = (os.path.join(folder, "containers.json"), os.path.join(folder, "volatile-containers.json"))
        return [each for path in paths for each in self._decoded(path, _CONTAINERS)]

    def all_layers(self) -> list[StoredLayer]:
        """Whole or not. Raises CnmError where a list is damaged."""
        paths = (self._path_of_layers, os.path.join(self._layers, "volatile-layers.json"))
        return [layer for path in paths for layer in self._decoded(path, _LAYERS)]

    @contextmanager
    def layers_locked(self) -> Iterator[None]:
        """Nobody else changes the list of layers meanwhile (containers/storage, lockfile_unix.go). Raises OSError.

        Only one thread at a time: the lock is the process's.
        """
        with open(os.path.join(self._layers, "layers.lock"), "ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def forget_layers(self, idents: Collection[str]) -> None:
        """They are in the list no more, and the others as they were; in `layers_locked`. Raises CnmError, OSError."""
        entries = self._decoded(self._path_of_layers, _ENTRIES)
        stay = [each for each in entries if msgspec.json.decode(each, type=StoredLayer).id not in idents]
        replace(self._path_of_layers, msgspec.json.encode(stay))

    def big_data(self, image: str, key: str) -> bytes:
        """A document that is kept with an image, as its config by the digest. Raises OSError."""
        with open(os.path.join(self._images, image, _file_name(key)), "rb") as file:
            return file.read()

    @property
    def _path_of_images(self) -> str:
        return os.path.join(self._images, "images.json")

    @property
    def _path_of_layers(self) -> str:
        return os.path.join(self._layers, "layers.json")

    def _decoded(self, path: str, decoder: msgspec.json.Decoder[list[T]]) -> list[T]:
        try:
            with open(path, "rb") as file:
                text = file.read().strip()
        except FileNotFoundError:
            return []
        try:
            return [] if text in _NOTHING else decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CnmError(f"the image store's list {path} is damaged: {error}") from None


def layer_directory(root: str, layer: str) -> str:
    """Where a layer's files are."""
    return os.path.join(root, "overlay", layer, "diff")


def short_link(root: str, layer: str) -> str:
    """A layer's path from `root`/overlay/l, the short one where it is there: a mount takes few bytes of paths."""
    try:
        with open(os.path.join(root, "overlay", layer, "link"), encoding="ascii") as file:
            link = file.read().strip()
    except FileNotFoundError:
        link = ""
    if link and os.path.lexists(os.path.join(root, "overlay", "l", link)):
        return link
    return f"../{layer}/diff"


def _file_name(key: str) -> str:
    """containers/storage, makeBigDataBaseName."""
    if _PLAIN_NAME.fullmatch(key):
        return key
    return f"={base64.b64encode(key.encode()).decode()}"


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ino, status.st_size
