"""containers-storage's files to read, podman to change them; what moves names does it one at a time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from cnm.errors import CnmError, Conflict
from cnm.launcher.deleting import delete
from cnm.launcher.disk import disk_errors
from cnm.launcher.image_index import ImageIndex, digits, hidden_name
from cnm.launcher.image_notes import ImageNotes
from cnm.launcher.images_in_work import ImagesInWork
from cnm.launcher.layers_on_their_way import LayersOnTheirWay
from cnm.launcher.orphaned_layers import OrphanedLayers
from cnm.launcher.podman import Podman
from cnm.launcher.programs import Programs
from cnm.launcher.registries import Registries
from cnm.launcher.registry_client import RegistryClient
from cnm.launcher.repo_digests import RepoDigests
from cnm.launcher.storage import Storage, StoredImage

_SCRATCH = "incoming"
_DIGESTS, _TAG_TIMES, _PARENTS = "repo-digests.json", "tag-times.json", "parents.json"
_FOR_USER_NAMESPACES = 0o711
_IN_USE = "is in use by"
"""Of podman's words, for an image that a container of a build is made from."""


class ImageStore:
    """Thread-safe."""

    def __init__(self, root: str, run: str, programs: Programs, registries: Registries | None = None) -> None:
        """`root` is storage's graph root and `run` its run root; both are made.

        Raises InvalidParameter for a registry that is none, CnmError where they cannot be made.
        """
        self.root = root
        self.digests = RepoDigests(os.path.join(root, _DIGESTS))
        self.tag_times = ImageNotes(os.path.join(root, _TAG_TIMES), int)
        """When images were named here the last time, in nanoseconds since 1970, which Docker tells of them."""
        self.parents = ImageNotes(os.path.join(root, _PARENTS), str)
        """Ids of the images that steps of builds began with: newer podmans do not write them into the new one."""
        self.storage = Storage(root)
        self.index = ImageIndex(self.storage, self.digests, self.parents)
        self._scratch = scratch = os.path.join(root, _SCRATCH)
        self.podman = Podman(root, run, programs, scratch, registries)
        self.client = RegistryClient(self.podman, scratch)
        self.orphans = OrphanedLayers(self.storage, self.index, self.podman, self.client)
        self.on_their_way = LayersOnTheirWay(lambda: self.index.contents().layers.keys(), self.orphans.drop)
        self.in_work = ImagesInWork(self.ids)
        self.renaming = threading.RLock()
        """Held by whoever looks at names, and then changes them."""
        with disk_errors(f"cannot prepare the image store {root}"):
            os.makedirs(root, mode=_FOR_USER_NAMESPACES, exist_ok=True)
            self.podman.settle()
        self.clear_scratch()

    def clear_scratch(self) -> None:
        """What a launcher that was killed has left, and its podman as long as one works. Raises CnmError."""
        with disk_errors(f"cannot empty {self._scratch}"):
            _empty(self._scratch)

    @contextmanager
    def adding(self, *, resumes: bool = False) -> Iterator[None]:
        """Whoever brings layers does it in here; see `LayersOnTheirWay`. Images that come meanwhile are not pruned."""
        with self.in_work.needing(()), self.on_their_way.adding(resumes=resumes):
            yield

    def show(self, image: str) -> None:
        """It is there, also where it was removed before, and where user namespaces can reach it."""
        with self.renaming:
            self._open_directories()
            hidden = hidden_name(image)
            if any(hidden in stored.names for stored in self.index.contents().images):
                self.podman.run("untag", digits(image), hidden)

    def tag(self, image: str, name: str) -> None:
        """`name` in full; whoever had it before has it no longer."""
        self.podman.run("tag", digits(image), name)

    def note_tag(self, image: str) -> None:
        """Somebody here has named it, now; that it came with a name is not noted."""
        self.tag_times.note({image: time.time_ns()}, self.ids)

    def hide(self, image: str) -> None:
        """It is removed as far as anybody sees, and containers keep its layers."""
        self.tag(image, hidden_name(image))

    def untag(self, image: str, names: Sequence[str]) -> None:
        self.digests.remove(names)
        if tags := [name for name in names if "@" not in name]:
            self.podman.run("untag", digits(image), *tags)

    def delete(self, image: str) -> None:
        """With all its names. podman must not decide on parents, which it takes from the history of layers.

        Nor is it forced, by which it would remove the containers of builds. Raises Conflict where there is one.
        """
        if any(each.id == digits(image) and len(each.names) > 1 for each in self.index.contents().images):
            self.podman.run("untag", digits(image))
        try:
            self.podman.run("rmi", "--no-prune", digits(image))
        except CnmError as error:
            if _IN_USE not in str(error):
                raise
            short = digits(image)[:12]
            raise Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - a build uses it"
            ) from None

    def ids(self) -> set[str]:
        """Of all images."""
        return {image.id for image in self.index.images()}

    def stored(self, image: str) -> StoredImage | None:
        return next((each for each in self.index.contents().images if each.id == digits(image)), None)

    def _open_directories(self) -> None:
        """podman makes them for root alone: whoever is root in a user namespace goes through them. Raises CnmError."""
        overlay = os.path.join(self.root, "overlay")
        for path in (overlay, *(os.path.join(overlay, layer) for layer in self.index.contents().layers)):
            with suppress(FileNotFoundError):  # it is being removed
                os.chmod(path, _FOR_USER_NAMESPACES)


def _empty(folder: str) -> None:
    """It is made where it is missing; on a full disk nothing could be made anew."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            delete(entry.path)
        else:
            os.unlink(entry.path)
