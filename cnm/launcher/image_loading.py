"""Images from archives, which podman reads; what it calls them otherwise than Docker is renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from cnm.errors import CnmError
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_archive import names_in
from cnm.launcher.image_store import ImageStore
from cnm.launcher.layer_blob import chunks, decompressed
from cnm.launcher.references import familiar, normalised
from cnm.launcher.transfer import Progress

_OF_NO_REGISTRY = "localhost/"
_NAMED = "Loaded image: "


class ImageLoader:
    """Thread-safe."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def loading(self, archive: BinaryIO) -> Iterator[Progress | str | None]:
        """Takes in what `docker save` wrote, or an OCI archive, compressed or not.

        Its layers as they come, None now and then, and at the end the lines that Docker answers: "Loaded image: NAME",
        or "Loaded image ID: sha256:…" for one without. (Docker tells of ids where the archive's last image has no
        name, then all of them.) All of `archive` is read before the first. It ends where the iterator is closed.
        Raises InvalidParameter where it is none, CnmError.
        """
        store = self._store
        with disk_errors("cannot load"), store.client.place() as place:
            path = os.path.join(place, "archive")
            with open(path, "wb") as file, decompressed(archive) as stream:
                file.writelines(chunks(stream))
            names = names_in(path)
            before = store.index.holders()
            with store.adding(), store.client.loading(place, path) as transfer:
                yield from transfer
            with store.renaming:
                lines = list(self._loaded(transfer.output.splitlines(), names, before))
            yield from lines

    def _loaded(self, lines: Iterable[str], written: set[str], before: Mapping[str, str]) -> Iterator[str]:
        """`lines` are podman's, `written` the names in the archive, `before` the images that had names before."""
        for line in lines:
            _, _, name = line.partition(": ")
            if name.startswith("sha256:"):
                self._store.show(name)
                yield f"Loaded image ID: {name}"
                continue
            image = self._stored(name)
            self._store.show(image)
            if _is_podmans_own(name, written):
                name = self._renamed(image, name, before)
            yield f"{_NAMED}{familiar(name)}"

    def _renamed(self, image: str, name: str, before: Mapping[str, str]) -> str:
        """From podman's name of no registry to Docker's; whoever had podman's before has it again."""
        full = normalised(name.removeprefix(_OF_NO_REGISTRY))
        self._store.tag(image, full)
        if name in before and before[name] != image:
            self._store.tag(before[name], name)
        elif name not in before:
            self._store.untag(image, [name])
        return full

    def _stored(self, name: str) -> str:
        """The id of what podman says it has just made."""
        for stored in self._store.index.contents().images:
            if name in stored.names:
                return f"sha256:{stored.id}"
        raise CnmError(f"image {name} was loaded, but is not in the store: was it removed meanwhile?")


def _is_podmans_own(name: str, written: set[str]) -> bool:
    """Whether podman has put its "localhost/" before a name that an archive has without a registry."""
    return name.startswith(_OF_NO_REGISTRY) and not {name, name.removesuffix(":latest")} & written
