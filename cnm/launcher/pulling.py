"""Pulls of images: one at a time of each name, so that two of one name are one."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterable, Iterator
from weakref import WeakValueDictionary

from cnm.errors import CnmError, NotFound
from cnm.launcher import progress
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.images import Images
from cnm.launcher.progress import Message
from cnm.launcher.references import Reference, familiar
from cnm.launcher.registries import Credentials, registry_of
from cnm.launcher.registry_client import Asker
from cnm.launcher.registry_words import not_pulled
from cnm.launcher.transfer import Progress, State, TransferFailed

_BEAT_SECONDS = 0.5
_MOST_TAGS = 100_000


class Pulls:
    """Thread-safe."""

    def __init__(self, images: Images, events: ImageEvents) -> None:
        self._images, self._events = images, events
        self._locks = WeakValueDictionary[str, threading.Lock]()
        self._choosing = threading.Lock()

    def pull(self, name: Reference, credentials: Credentials, platform: str = "") -> Iterator[Message | None]:
        """`name` with a tag or a digest. Docker's lines, None now and then; it ends where the iterator is closed.

        Raises NotFound and CnmError in Docker's words.
        """
        with self._choosing:
            lock = self._locks.setdefault(str(name), threading.Lock())
        while not lock.acquire(timeout=_BEAT_SECONDS):
            yield None
        try:
            yield None  # who has waited may have gone meanwhile
            yield from self._pull(name, credentials, platform)
        finally:
            lock.release()

    def pull_all(self, repository: Reference, credentials: Credentials) -> Iterator[Message | None]:
        """Every tag of it. Raises as `pull`."""
        shown, is_new = familiar(repository.repository), False
        tags = yield from self._tags(repository, credentials)
        for tag in tags:
            for line in self.pull(repository._replace(tag=tag), credentials):
                is_status = line is not None and line["status"].startswith("Status: ")
                is_new |= is_status and line == _status(True, f"{shown}:{tag}")
                yield None if is_status else line
        self._events.tell("pull", shown, shown)
        yield _status(is_new, shown)

    def _tags(self, repository: Reference, credentials: Credentials) -> Generator[None, None, list[str]]:
        asker = Asker(registry_of(repository.repository), credentials)
        options = ("--list-tags", "--limit", str(_MOST_TAGS), "--format", "json")
        try:
            told = yield from self._images.client.asking("search", asker, *options, repository.repository)
        except CnmError as error:
            raise not_pulled(error, repository, asker) from None
        return [tag for each in json.loads(told or "[]") for tag in each["Tags"] or ()]

    def _pull(self, name: Reference, credentials: Credentials, platform: str) -> Iterator[Message | None]:
        shown, before, manifests = familiar(str(name)), self._held(name), self._images.manifests()
        asker = Asker(registry_of(name.repository), credentials)
        options = ("--platform", platform) if platform else ()
        lines = _Lines(name)
        with (
            self._images.adding(resumes=True),
            self._images.client.pulling(asker, *options, str(name)) as transfer,
        ):
            try:
                yield from lines.of(transfer)
            except TransferFailed as error:
                raise not_pulled(error, name, asker) from None
        image = _id(transfer.output, shown)
        digest = self._images.pulled(image, name, manifests)
        self._events.tell("pull", shown, familiar(name.repository))
        is_new = image != before
        if is_new:
            yield from lines.rest()
        yield progress.message(f"Digest: {digest}")
        yield _status(is_new, shown)

    def _held(self, name: Reference) -> str:
        """The id of the image that has the name now, "" for none."""
        try:
            return self._images.find(str(name)).id
        except NotFound:
            return ""


def _id(printed: str, shown: str) -> str:
    """Of what podman has pulled: it prints it at the end. Raises CnmError."""
    words = printed.split()
    if not words:
        raise CnmError(f"{shown} was pulled, but podman does not tell which image it is: pull it again")
    return f"sha256:{words[-1]}"


def _status(is_new: bool, shown: str) -> Message:
    what = "Downloaded newer image" if is_new else "Image is up to date"
    return progress.message(f"Status: {what} for {shown}")


class _Lines:
    """What Docker says of layers. Of those that are here it says nothing where the whole image is."""

    def __init__(self, name: Reference) -> None:
        self._name = name
        self._copied: dict[str, None] = {}
        self._present: list[str] = []

    def of(self, transfer: Iterable[Progress | None]) -> Iterator[Message | None]:
        for each in transfer:
            if each is None:
                yield None
            elif each.state is State.FOUND:
                _, _, path = self._name.repository.partition("/")
                yield progress.message(
                    f"Pulling from {path}", familiar(str(self._name)) if self._name.digest else self._name.tag
                )
            elif each.state is State.PRESENT:
                self._present.append(each.layer)
            else:
                yield from self._copy(each)

    def rest(self) -> Iterator[Message]:
        """When all is here."""
        yield from self._already_here()
        for layer in self._copied:
            yield progress.of_layer("Pull complete", layer)

    def _copy(self, seen: Progress) -> Iterator[Message]:
        yield from self._already_here()
        if seen.layer not in self._copied:
            self._copied[seen.layer] = None
            yield progress.of_layer("Pulling fs layer", seen.layer)
        if seen.state is State.DONE:
            yield progress.of_layer("Download complete", seen.layer)
        else:
            yield progress.of_layer("Downloading", seen.layer, seen.current, seen.total)

    def _already_here(self) -> Iterator[Message]:
        while self._present:
            yield progress.of_layer("Already exists", self._present.pop(0))
