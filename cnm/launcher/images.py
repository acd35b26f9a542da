"""The images of this host: read from containers-storage's own files, changed by podman."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import BinaryIO

from cnm.errors import CnmError, Conflict, InvalidParameter
from cnm.launcher import store_processes
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_config import Image
from cnm.launcher.image_index import Damaged
from cnm.launcher.image_loading import ImageLoader
from cnm.launcher.image_making import ImageMaker
from cnm.launcher.image_store import ImageStore
from cnm.launcher.manifests import given, manifests
from cnm.launcher.programs import Programs
from cnm.launcher.references import Reference, familiar, normalised, parse
from cnm.launcher.registries import Registries
from cnm.launcher.removal import Removal, Removed, User, records

log = logging.getLogger("cnm.launcher")

InUse = Callable[[str], Iterable[User]]
"""Says which containers are made from an image, by its id."""


class Images:
    """The image store. Thread-safe."""

    def __init__(self, root: str, run: str, programs: Programs, registries: Registries | None = None) -> None:
        """`root` is storage's graph root and `run` its run root; both are made.

        Raises InvalidParameter for a registry that is none.
        """
        self._store = ImageStore(root, run, programs, registries)
        self._index, self._digests = self._store.index, self._store.digests
        self.podman, self.client = self._store.podman, self._store.client
        self.adding, self.show, self.renaming = self._store.adding, self._store.show, self._store.renaming
        self.needing = self._store.in_work.needing
        self.loading = ImageLoader(self._store).loading
        maker = ImageMaker(self._store)
        self.import_tar, self.commit = maker.import_tar, maker.commit

    def settle(self) -> None:
        """Before anything else: what a launcher that was killed has left goes, programs, layers and files.

        What cannot be removed is told.
        """
        try:
            store_processes.end(self.podman.environment())
            self._store.clear_scratch()
            self._store.orphans.drop()
        except CnmError as error:
            log.warning("layers that no image has stay: %s", error)

    def all(self) -> list[Image]:
        """In no order."""
        return self._index.images()

    def damaged(self) -> list[Damaged]:
        """What is left of images that no container can be made from; they are not among `all`."""
        return self._index.damaged()

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

    def last_tagged(self, image: str) -> int:
        """When it was named here, in nanoseconds since 1970; 0 for never."""
        return self._store.tag_times.of(image, 0)

    def note_parents(self, parents: Mapping[str, str]) -> None:
        """Of images that were built, by their ids."""
        self._store.parents.note(parents, self._store.ids)

    # From registries

    def manifests(self) -> dict[str, frozenset[str]]:
        """Digests of the manifests that the store has of each image, by its id: for `pulled`, before a pull."""
        return {f"sha256:{each.id}": manifests(each) for each in self._index.contents().images}

    def pulled(self, image: str, name: Reference, before: Mapping[str, Collection[str]]) -> str:
        """Whoever has pulled an image, by its id, says so: it is shown, and known by the digest that is the answer.

        Raises CnmError where it is gone again.
        """
        self.show(image)
        digest = name.digest or self._given(image, name.repository, before.get(image, ()))
        self.add_digest(image, f"{name.repository}@{digest}")
        return digest

    def add_digest(self, image: str, name: str) -> None:
        """What a registry calls an image, by its id, from now on: "REPOSITORY@sha256:…". Raises CnmError."""
        self._digests.add(name, image, self._store.ids)

    def _given(self, image: str, repository: str, before: Collection[str]) -> str:
        found = self._store.stored(image)
        if found is None:
            raise CnmError(f"image {image} was pulled, but is not in the store: was it removed meanwhile?")
        names = (name.partition("@") for name in self._digests.of(image))
        recorded = {digest for own, _, digest in names if own == repository}
        with disk_errors(f"cannot read the manifests of image {image}"):
            return given(self._store.storage, found, before, recorded)

    # Named and removed

    def tag(self, reference: str, name: str) -> None:
        """Gives an image one more name, and takes it from any other. Raises NotFound and InvalidParameter."""
        if parse(name).digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        with self._store.renaming:
            image = self.find(reference).id
            self._store.tag(image, normalised(name))
            self._store.note_tag(image)

    def remove(self, reference: str, *, force: bool, in_use: InUse, prune: bool = True) -> list[Removed]:
        """Removes a name, and an image with its last one; `prune`: its parents without names, too.

        One that stopped containers are made from is hidden: its layers stay until `forget`. Raises NotFound, and
        Conflict in Docker's words.
        """
        with self._store.renaming:
            images = self.all()
            image = self.find(reference)
            plan = Removal(image, reference, force, prune, images, self._with_builds(in_use)).plan()
            told = records(plan, images)
            if plan.kept_for_users:
                self._store.hide(image.id)
            if plan.untagged and (plan.kept_for_users or not plan.deleted):
                self._store.untag(image.id, plan.untagged)
            for deleted in () if plan.kept_for_users else plan.deleted:
                self._store.delete(deleted.id)
            return told

    def remove_damaged(self, reference: str, in_use: InUse) -> list[Removed]:
        """What is left of an image, with all its names. Raises NotFound, Conflict, and CnmError."""
        with self._store.renaming:
            found = self._index.find_damaged(reference)
            if users := list(in_use(found.id)):
                raise Conflict(
                    f"conflict: unable to delete {found.id[7:19]} (cannot be forced) - image is damaged, and container "
                    f"{users[0].id[:12]} is made from it: remove that first"
                )
            self._store.delete(found.id)
            return [*(Removed(untagged=familiar(name)) for name in found.names), Removed(deleted=found.id)]

    def may_be_needed(self, image: str) -> bool:
        """Whether a build that goes on needs it, or whoever makes an image: then it is not to be pruned."""
        return self._store.in_work.may_need(image) or any(self._with_builds(lambda _: ())(image))

    def drop_layers(self) -> None:
        """What is kept of pulls that failed goes, so that there is room."""
        self._store.on_their_way.drop_all()

    def forget(self, in_use: InUse) -> None:
        """Deletes images that were removed while containers were made from them, once none is any more."""
        for image in self._index.removed():
            if not list(in_use(image.id)):
                with self._store.renaming:
                    self._forget(image)

    def _forget(self, image: Image) -> None:
        try:
            self._store.delete(image.id)
        except CnmError as error:
            log.warning("image %s, which was removed, stays: %s", image.id, error)

    def _with_builds(self, in_use: InUse) -> InUse:
        """Their containers, too, of steps that run."""
        found = self._store.storage.containers()

        def users(image: str) -> Iterable[User]:
            yield from in_use(image)
            yield from (User(each.id, True) for each in found if f"sha256:{each.image}" == image)

        return users
