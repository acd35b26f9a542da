"""What removing an image means: which names go, whether it goes itself, and when it may not.

Source of rules and texts: daemon/images/image_delete.go of Docker 20.10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from cnm.errors import Conflict, NotFound
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
        """Raises Conflict and NotFound in Docker's words."""
        if _names_id(self.image, self.reference):
            return self._by_id()
        return self._by_name()

    def _by_name(self) -> Plan:
        name = normalised(self.reference)
        if name not in self.image.names:
            raise NotFound(f"No such image: {familiar(name)}")
        if not self.force and _is_single(self.image.names) and (users := self._users()):
            raise Conflict(
                f'conflict: unable to remove repository reference "{self.reference}" (must force) - container'
                f" {users[0].id[:_SHORT]} is using its referenced image {_short(self.image.id)}"
            )
        names = (name, *_left_alone(name, self.image.names))
        if set(self.image.names) - set(names):
            return Plan(names, ())
        try:
            return self._deleting(names)
        except Conflict:  # the name goes in any case, and what then is in the way is no error
            return Plan(names, ())

    def _by_id(self) -> Plan:
        names = self.image.names
        if not self.force and not _is_single(names):
            self._refuse_needed()
            raise self._conflict("must be forced", "image is referenced in multiple repositories")
        return self._deleting(names)

    def _deleting(self, names: tuple[str, ...]) -> Plan:
        """Of the image itself, whose last names go. Raises Conflict."""
        self._refuse_needed()
        users = self._users()
        if users and not self.force:
            raise self._conflict(
                "must be forced", f"image is being used by stopped container {users[0].id[:_SHORT]}"
            )
        parents = self._parents() if self.prune and not users else ()
        return Plan(names, (self.image, *parents), kept_for_users=bool(users))

    def _refuse_needed(self) -> None:
        """What force does not change."""
        if any(other.parent == self.image.id for other in self.images):
            raise self._conflict("cannot be forced", "image has dependent child images")
        for user in self._users():
            if user.is_running:
                why = f"image is being used by running container {user.id[:_SHORT]}"
                raise self._conflict("cannot be forced", why)

    def _users(self) -> list[User]:
        return list(self.in_use(self.image.id))

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


def _is_single(names: Sequence[str]) -> bool:
    """Whether all names are one tag at most, and digests in one repository."""
    tags = [name for name in names if "@" not in name]
    return len(names) <= 1 or (len(tags) <= 1 and len({parse(name).repository for name in names}) == 1)


def _left_alone(name: str, names: Sequence[str]) -> list[str]:
    """Names by digest that go with the last tag of their repository."""
    repository = parse(name).repository
    others = [other for other in names if other != name and parse(other).repository == repository]
    return [] if "@" in name or any("@" not in other for other in others) else others


def _names_id(image: Image, reference: str) -> bool:
    """Whether a reference is the image's id or the beginning of it, and so none of its names."""
    digits = reference.removeprefix("sha256:")
    return bool(digits) and image.id.removeprefix("sha256:").startswith(digits)


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:_SHORT]
