"""Images from archives, which podman reads; what it calls them otherwise than Docker is renamed."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from typing import BinaryIO

from cnm.errors import CnmError
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_archive import Archived, read
from cnm.launcher.image_store import ImageStore
from cnm.launcher.layer_blob import chunks, decompressed
from cnm.launcher.podman import Source, failure
from cnm.launcher.references import familiar, normalised
from cnm.launcher.transfer import Progress, Transfer, TransferFailed

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
            archived, before = read(path), store.index.holders()
            lines: list[str] = []
            with store.adding():
                singly = () if ":" in path else archived.images  # it has another meaning for podman
                for number, names in enumerate(singly):
                    image = yield from self._copied(place, f"docker-archive:{path}:@{number}")
                    lines += self._settled(self._told(image, names), archived, before)
                if not singly:
                    with store.client.loading(place, path) as transfer:
                        yield from transfer
                    lines += self._settled(transfer.output.splitlines(), archived, before)
            yield from lines

    def _copied(self, place: str, source: str) -> Generator[Progress | None, None, str]:
        """The id of an image of Docker's archive; `podman load` would take that for OCI's first, and unpack it."""
        podman = self._store.podman
        env = podman.environment_from(Source.DISK, place)
        with Transfer(podman.command("pull", source), env) as transfer:
            try:
                yield from transfer
            except TransferFailed as error:
                raise failure("load", str(error)) from None
        return f"sha256:{transfer.output.split()[-1]}"

    def _told(self, image: str, names: Iterable[str]) -> Iterator[str]:
        """As `podman load` would say it: by the names that it has given."""
        stored = self._store.stored(image)
        tagged = [name if ":" in name.rpartition("/")[2] else f"{name}:latest" for name in names]
        for name in tagged:
            own = f"{_OF_NO_REGISTRY}{name}"
            yield f"{_NAMED}{own if stored and name not in stored.names else name}"
        if not tagged:
            yield f"{_NAMED}{image}"

    def _settled(self, lines: Iterable[str], archived: Archived, before: Mapping[str, str]) -> list[str]:
        with self._store.renaming:
            return list(self._loaded(lines, archived.names, before))

    def _loaded(
        self, lines: Iterable[str], written: Collection[str], before: Mapping[str, str]
    ) -> Iterator[str]:
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


def _is_podmans_own(name: str, written: Collection[str]) -> bool:
    """Whether podman has put its "localhost/" before a name that an archive has without a registry."""
    return name.startswith(_OF_NO_REGISTRY) and not {name, name.removesuffix(":latest")} & set(written)
