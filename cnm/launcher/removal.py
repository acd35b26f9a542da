"""What removing an image means: which names go, whether it goes itself, and when it may not.

Source of rules and texts: daemon/images/image_delete.go of Docker 20.10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from cnm.errors import Conflict
from cnm.launcher.image_config import Image, chain_ids
from cnm.launcher.references import familiar, normalised, parse

_SHORT = 12


class User(NamedTuple):
    """A container that is made from an image."""

    id: str
    is_running: bool


class Removed(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """An entry of the answer: the familiar name that went, or the id of an image or a layer."""

    untagged: str = ""
    deleted: str = ""


class Plan(NamedTuple):
    """What is to be done; `deleted` are whole images, in their order."""

    untagged: tuple[str, ...]
    deleted: tuple[Image, ...]
    kept_for_users: bool = False
    """Stopped containers still need the layers of the image that is deleted."""


class Removal(NamedTuple):
    """One request. `reference` is what the client wrote, `image` what it named."""

    image: Image
    reference: str
    force: bool
    prune: bool
    images: Sequence[Image]
    in_use: Callable[[str], Iterable[User]]

    def plan(self) -> Plan:
        """Raises Conflict in Docker's words."""
        if _names_id(self.image, self.reference):
            return self._by_id()
        return self._by_name()

    def _by_name(self) -> Plan:
        name = normalised(self.reference)
        repositories = {parse(known).repository for known in self.image.names}
        single = len(self.image.names) <= 1 or (len(repositories) == 1 and "@" in "".join(self.image.names))
        if not self.force and single and (users := list(self.in_use(self.image.id))):
            raise Conflict(
                f'conflict: unable to remove repository reference "{self.reference}" (must force) - container'
                f" {users[0].id[:_SHORT]} is using its referenced image {_short(self.image.id)}"
            )
        if len(self.image.names) > 1:
            return Plan((name,), ())
        return self._deleting((name,), is_quiet=True)

    def _by_id(self) -> Plan:
        names = self.image.names
        if len(names) > 1 and not self.force:
            self._refuse_dependent()
            raise self._conflict("must be forced", "image is referenced in multiple repositories")
        return self._deleting(names, is_quiet=False)

    def _deleting(self, names: tuple[str, ...], *, is_quiet: bool) -> Plan:
        """Of the image itself, whose last names go. After a name of the user's went, what is in the way is no error."""
        try:
            self._refuse_dependent()
            stopped = self._refuse_used()
        except Conflict:
            if is_quiet:
                return Plan(names, ())
            raise
        parents = self._parents() if self.prune and not stopped else ()
        return Plan(names, (self.image, *parents), kept_for_users=stopped)

    def _refuse_dependent(self) -> None:
        if any(other.parent == self.image.id for other in self.images):
            raise self._conflict("cannot be forced", "image has dependent child images")

    def _refuse_used(self) -> bool:
        """Whether stopped containers use it, which force allows."""
        users = list(self.in_use(self.image.id))
        for user in users:
            if user.is_running:
                raise self._conflict(
                    "cannot be forced", f"image is being used by running container {user.id[:_SHORT]}"
                )
        if users and not self.force:
            raise self._conflict(
                "must be forced", f"image is being used by stopped container {users[0].id[:_SHORT]}"
            )
        return bool(users)

    def _parents(self) -> tuple[Image, ...]:
        """Those without a name that nothing else needs any more."""
        gone = {self.image.id}
        found: list[Image] = []
        parent = self.image.parent
        while parent and (image := next((image for image in self.images if image.id == parent), None)):
            children = [other for other in self.images if other.parent == image.id and other.id not in gone]
            if image.names or children or any(True for _ in self.in_use(image.id)):
                break
            found.append(image)
            gone.add(image.id)
            parent = image.parent
        return tuple(found)

    def _conflict(self, how: str, why: str) -> Conflict:
        return Conflict(f"conflict: unable to delete {_short(self.image.id)} ({how}) - {why}")


def records(plan: Plan, images: Sequence[Image]) -> list[Removed]:
    """Docker's answer. Layers that other images or containers share stay, and are not told of."""
    gone = {image.id for image in plan.deleted}
    shared = {chain for image in images if image.id not in gone for chain in chain_ids(image.diff_ids)}
    told = [Removed(untagged=familiar(name)) for name in plan.untagged]
    for image in plan.deleted:
        told.append(Removed(deleted=image.id))
        for chain in reversed(chain_ids(image.diff_ids)) if not plan.kept_for_users else ():
            if chain not in shared:
                shared.add(chain)
                told.append(Removed(deleted=chain))
    return told


def _names_id(image: Image, reference: str) -> bool:
    """Whether a reference is the image's id or the beginning of it, and so none of its names."""
    digits = reference.removeprefix("sha256:")
    return bool(digits) and image.id.removeprefix("sha256:").startswith(digits)


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:_SHORT]
