"""The images of this host: read from containers-storage's own files, changed by podman.

What podman cannot do as Docker does, new images from a tar or from a container's changes, is laid out as a directory
of blobs (containers-transports(5), dir:) that podman takes in.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import msgspec

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher import image_config
from cnm.launcher.container import Container
from cnm.launcher.image_archive import names_in
from cnm.launcher.image_config import Image
from cnm.launcher.image_index import ImageIndex, digits, hidden_name
from cnm.launcher.instructions import changed
from cnm.launcher.layer_blob import Blob, changes_of, chunks, decompressed, require_tar, written
from cnm.launcher.manifests import given, manifests
from cnm.launcher.modes import user_mapping
from cnm.launcher.orphaned_layers import LayersOnTheirWay, orphans
from cnm.launcher.podman import Podman
from cnm.launcher.programs import Programs
from cnm.launcher.references import Reference, familiar, normalised, parse
from cnm.launcher.registries import Registries
from cnm.launcher.registry_client import RegistryClient
from cnm.launcher.removal import Removal, Removed, User, records
from cnm.launcher.repo_digests import RepoDigests
from cnm.launcher.storage import Storage
from cnm.launcher.transfer import Progress
from cnm.wire.containers import Config

_SCRATCH = "incoming"
_DIGESTS = "repo-digests.json"
_OF_NO_REGISTRY = "localhost/"
_NAMED = "Loaded image: "
_HEX_DIGITS = 64
_FOR_USER_NAMESPACES = 0o711


class Images:
    """The image store."""

    def __init__(self, root: str, run: str, programs: Programs, registries: Registries | None = None) -> None:
        """`root` is storage's graph root and `run` its run root; both are made.

        Raises InvalidParameter for a registry that is none.
        """
        self._root = root
        self._digests = RepoDigests(os.path.join(root, _DIGESTS))
        self._storage = Storage(root)
        self._index = ImageIndex(self._storage, self._digests)
        self._scratch = os.path.join(root, _SCRATCH)
        self.podman = Podman(root, run, programs, self._scratch, registries)
        self.client = RegistryClient(self.podman, self._scratch)
        self._renaming = threading.RLock()
        self._on_their_way = LayersOnTheirWay(self._layers, self.drop_orphans)
        self.adding = self._on_their_way.adding
        os.makedirs(root, mode=_FOR_USER_NAMESPACES, exist_ok=True)
        shutil.rmtree(self._scratch, ignore_errors=True)  # of a launcher that was killed
        os.makedirs(self._scratch, mode=0o700)
        self.podman.settle()

    def show(self, image: str) -> None:
        """What was built is there, whatever was removed before, and user namespaces can reach it."""
        with self._renaming:
            self._show(image)

    def all(self) -> list[Image]:
        """In no order."""
        return self._index.images()

    def find(self, reference: str) -> Image:
        """The image of a name, a name with a tag or a digest, an id, or the beginning of one.

        Raises NotFound and InvalidParameter in Docker's words.
        """
        return self._index.find(reference)

    def family(self, reference: str) -> set[str]:
        """Ids of an image and of all that are made of it. Raises as `find`."""
        found = {self.find(reference).id}
        images = self.all()
        while made := {image.id for image in images if image.parent in found} - found:
            found |= made
        return found

    def load(self, archive: BinaryIO) -> list[str]:
        """`loading`, to its end: its lines."""
        return [each for each in self.loading(archive) if isinstance(each, str)]

    def loading(self, archive: BinaryIO) -> Iterator[Progress | str | None]:
        """Takes in what `docker save` wrote, or an OCI archive, compressed or not.

        Its layers as they come, None now and then, and at the end the lines that Docker answers: "Loaded image: NAME",
        or "Loaded image ID: sha256:…" for one without. (Docker tells of ids where the archive's last image has no
        name, then all of them.) All of `archive` is read before the first. It ends where the iterator is closed.
        Raises InvalidParameter where it is none.
        """
        with self.client.place() as place:
            path = os.path.join(place, "archive")
            with open(path, "wb") as file, decompressed(archive) as stream:
                file.writelines(chunks(stream))
            names = names_in(path)
            before = self._index.holders()
            with self.adding(), self.client.loading(place, path) as transfer:
                yield from transfer
            with self._renaming:
                yield from list(self._loaded(transfer.output.splitlines(), names, before))

    def manifests(self) -> dict[str, frozenset[str]]:
        """Digests of the manifests that the store has of each image, by its id: for `pulled`, before a pull."""
        return {f"sha256:{each.id}": manifests(each) for each in self._index.contents().images}

    def pulled(self, image: str, name: Reference, before: Mapping[str, Collection[str]]) -> str:
        """Whoever has pulled an image, by its id, says so: it is shown, and known by the digest that is the answer.

        Raises CnmError where it is gone again.
        """
        with self._renaming:
            self._show(image)
        digest = name.digest or self._given(image, name.repository, before.get(image, ()))
        self.add_digest(image, f"{name.repository}@{digest}")
        return digest

    def add_digest(self, image: str, name: str) -> None:
        """What a registry calls an image, by its id, from now on: "REPOSITORY@sha256:…"."""
        self._digests.add(name, image, {each.id for each in self.all()})

    def import_tar(self, archive: BinaryIO, reference: str, changes: Sequence[str], message: str) -> str:
        """A new image of one layer, a tar, compressed or not; its id. `reference` may be "".

        Raises InvalidParameter for a reference, a change or a tar that is wrong.
        """
        if reference and parse(reference).digest:
            raise InvalidParameter("cannot import digest reference")
        name = normalised(reference) if reference else ""
        config = changed(Config(), changes)
        with self.client.place() as place, decompressed(archive) as stream:
            blob = written(place, chunks(stream))
            require_tar(os.path.join(place, digits(blob.digest)))
            document = image_config.derived(
                None, config, blob.digest, author="", comment=message, created_by=""
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

        `config` instead of the container's. Whoever calls sees to it that the container rests meanwhile. Raises
        NotFound where its image is gone, InvalidParameter for a reference or a change that is wrong.
        """
        name = normalised(reference) if reference else ""
        wanted = changed(_plain(config or container.config), changes)
        parent, below = self._base(container)
        with self.client.place() as place:
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

    def tag(self, reference: str, name: str) -> None:
        """Gives an image one more name, and takes it from any other. Raises NotFound and InvalidParameter."""
        if parse(name).digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        with self._renaming:
            self._tag(self.find(reference).id, normalised(name))

    def remove(
        self,
        reference: str,
        *,
        force: bool,
        in_use: Callable[[str], Iterable[User]],
        prune: bool = True,
    ) -> list[Removed]:
        """Removes a name, and an image with its last one; `prune`: its parents without names, too.

        `in_use` says which containers are made from an image. One that stopped containers are made from is hidden: its
        layers stay until `forget`. Raises NotFound, and Conflict in Docker's words.
        """
        with self._renaming:
            images = self.all()
            image = self.find(reference)
            plan = Removal(image, reference, force, prune, images, in_use).plan()
            told = records(plan, images)
            if plan.kept_for_users:
                self.podman.run("tag", digits(image.id), hidden_name(image.id))
            if plan.untagged and (plan.kept_for_users or not plan.deleted):
                self._untag(image, plan.untagged)
            for deleted in () if plan.kept_for_users else plan.deleted:
                self._delete(deleted)
            return told

    def forget(self, in_use: Callable[[str], Iterable[User]]) -> None:
        """Deletes images that were removed while containers were made from them, once none is any more."""
        for image in self._index.removed():
            if not list(in_use(image.id)):
                with self._renaming:
                    self._delete(image)

    def _delete(self, image: Image) -> None:
        """podman must not decide on parents, which it takes from the history of layers."""
        self.podman.run("rmi", "--force", "--no-prune", digits(image.id))

    def _untag(self, image: Image, names: Sequence[str]) -> None:
        self._digests.remove(names)
        if tags := [name for name in names if "@" not in name]:
            self.podman.run("untag", digits(image.id), *tags)

    def _tag(self, image: str, name: str) -> None:
        self.podman.run("tag", digits(image), name)

    def _take_in(self, place: str, document: bytes, layers: Sequence[Blob], name: str) -> str:
        """`place` holds the blobs that are new; what the store has it does not read."""
        manifest = image_config.manifest(document, [(layer.digest, layer.size) for layer in layers])
        image = _lay_out(place, document, manifest)
        with self.adding():
            self._copy_in(place)
        with self._renaming:
            self._show(image)
            if name:
                self._tag(image, name)
        return image

    def _copy_in(self, place: str) -> None:
        self.podman.run("pull", *self.podman.copying(), f"dir:{place}")

    def drop_orphans(self, kept: Collection[str] = ()) -> None:
        """Layers that no image has, but for `kept`; only while nobody adds any. Raises CnmError.

        podman removes layers with images only, so each gets one. What a kill left half-there goes with any image.
        """
        contents = self._index.contents()
        chains = list(orphans(self._root, contents, kept))
        for chain in chains or [()] * contents.has_incomplete:
            blobs = [(layer.diff_digest, layer.diff_size) for layer in chain]
            document = image_config.of_layers([digest for digest, _ in blobs])
            with self.client.place() as place:
                image = _lay_out(place, document, image_config.manifest(document, blobs))
                self._copy_in(place)
            self.podman.run("rmi", "--force", "--no-prune", digits(image))

    def _layers(self) -> Collection[str]:
        return self._index.contents().layers.keys()

    def _show(self, image: str) -> None:
        """It is there, also where it was removed before, and where user namespaces can reach it."""
        self._open_directories()
        hidden = hidden_name(image)
        if any(hidden in stored.names for stored in self._index.contents().images):
            self.podman.run("untag", digits(image), hidden)

    def _loaded(self, lines: Iterable[str], written: set[str], before: Mapping[str, str]) -> Iterator[str]:
        """`lines` are podman's, `written` the names in the archive, `before` the images that had names before."""
        for line in lines:
            _, _, name = line.partition(": ")
            if name.startswith("sha256:"):
                self._show(name)
                yield f"Loaded image ID: {name}"
                continue
            image = self._stored(name)
            self._show(image)
            if _is_podmans_own(name, written):
                name = self._renamed(image, name, before)
            yield f"{_NAMED}{familiar(name)}"

    def _renamed(self, image: str, name: str, before: Mapping[str, str]) -> str:
        """From podman's name of no registry to Docker's; whoever had podman's before has it again."""
        full = normalised(name.removeprefix(_OF_NO_REGISTRY))
        self._tag(image, full)
        if name in before and before[name] != image:
            self._tag(before[name], name)
        elif name not in before:
            self.podman.run("untag", digits(image), name)
        return full

    def _given(self, image: str, repository: str, before: Collection[str]) -> str:
        found = [each for each in self._index.contents().images if each.id == digits(image)]
        if not found:
            raise CnmError(f"image {image} was pulled, but is not in the store: was it removed meanwhile?")
        names = (name.partition("@") for name in self._digests.of(image))
        recorded = {digest for own, _, digest in names if own == repository}
        return given(self._storage, found[0], before, recorded)

    def _stored(self, name: str) -> str:
        """The id of what podman says it has just made."""
        for stored in self._index.contents().images:
            if name in stored.names:
                return f"sha256:{stored.id}"
        raise CnmError(f"image {name} was loaded, but is not in the store: was it removed meanwhile?")

    def _base(self, container: Container) -> tuple[Image, list[Blob]]:
        """A container's image, and its layers as blobs that the store has."""
        image = self._index.whole(container.image)
        stored = self._index.contents().layers
        layers = [stored[layer] for layer in image.layers]
        return image, [Blob(layer.diff_digest, layer.diff_size) for layer in layers]

    def _open_directories(self) -> None:
        """podman makes them for root alone: whoever is root in a user namespace goes through them."""
        overlay = os.path.join(self._root, "overlay")
        os.chmod(overlay, _FOR_USER_NAMESPACES)
        for entry in os.scandir(overlay):
            if entry.is_dir(follow_symlinks=False) and len(entry.name) == _HEX_DIGITS:
                os.chmod(entry.path, _FOR_USER_NAMESPACES)


def _lay_out(place: str, document: bytes, manifest: bytes) -> str:
    """An image without its layers, as dir: of containers-transports(5) has it; its id."""
    image = image_config.digest_of(document)
    texts = {
        "version": b"Directory Transport Version: 1.1\n",
        "manifest.json": manifest,
        digits(image): document,
    }
    for file_name, text in texts.items():
        with open(os.path.join(place, file_name), "wb") as file:
            file.write(text)
    return image


def _is_podmans_own(name: str, written: set[str]) -> bool:
    """Whether podman has put its "localhost/" before a name that an archive has without a registry."""
    return name.startswith(_OF_NO_REGISTRY) and not {name, name.removesuffix(":latest")} & written


def _plain(config: Config) -> Config:
    """As documents have it: lists, where clients may have sent a text."""
    return msgspec.structs.replace(config, cmd=_words(config.cmd), entrypoint=_words(config.entrypoint))


def _words(command: list[str] | str | None) -> list[str] | None:
    return [command] if isinstance(command, str) else command
