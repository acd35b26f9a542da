"""Pushes of images to registries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cnm.errors import NotFound
from cnm.launcher import progress
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.images import Images
from cnm.launcher.progress import Message
from cnm.launcher.references import familiar, parse
from cnm.launcher.registries import Credentials, registry_of
from cnm.launcher.registry_client import Asker
from cnm.launcher.registry_words import not_pushed
from cnm.launcher.transfer import Progress, State, TransferFailed


class Pushes:
    """Thread-safe."""

    def __init__(self, images: Images, events: ImageEvents) -> None:
        self._images, self._events = images, events

    def push(self, repository: str, tag: str, credentials: Credentials) -> Iterator[Message | None]:
        """One tag, or where that is "" all that the repository has here; `repository` is a full name.

        Docker's lines, None now and then; it ends where the iterator is closed. Raises NotFound and CnmError in
        Docker's words.
        """
        yield progress.message(f"The push refers to repository [{repository}]")
        for name in self._names(repository, tag):
            yield from self._push(name, credentials)

    def _names(self, repository: str, tag: str) -> list[str]:
        tags = [name for image in self._images.all() for name in image.tags]
        names = sorted(name for name in tags if parse(name).repository == repository)
        if not names:
            raise NotFound(f"An image does not exist locally with the tag: {familiar(repository)}")
        if tag and f"{repository}:{tag}" not in names:
            raise NotFound(f"tag does not exist: {familiar(f'{repository}:{tag}')}")
        return [f"{repository}:{tag}"] if tag else names

    def _push(self, name: str, credentials: Credentials) -> Iterator[Message | None]:
        reference = parse(name)
        image = self._images.find(name)
        asker = Asker(registry_of(reference.repository), credentials)
        with self._images.client.pushing(asker, name) as (transfer, digest_file):
            try:
                yield from _lines(transfer)
            except TransferFailed as error:
                raise not_pushed(error, asker) from None
            with open(digest_file, encoding="ascii") as file:
                digest = file.read().strip()
        self._images.add_digest(image.id, f"{reference.repository}@{digest}")
        self._events.tell("push", familiar(name), familiar(reference.repository))
        yield progress.message(f"{reference.tag}: digest: {digest}")
        yield {"progressDetail": {}, "aux": {"Tag": reference.tag, "Digest": digest}}


def _lines(transfer: Iterable[Progress | None]) -> Iterator[Message | None]:
    """podman calls a layer done that it has written: the registry has it for sure when all is well at the end."""
    known, done = set(), dict[str, None]()
    for each in transfer:
        if each is None:
            yield None
            continue
        if each.layer and each.layer not in known:
            known.add(each.layer)
            yield progress.of_layer("Preparing", each.layer)
        if each.state is State.PRESENT:
            yield progress.of_layer("Layer already exists", each.layer)
        elif each.state is State.COPYING:
            yield progress.of_layer("Pushing", each.layer, each.current, each.total)
        elif each.state is State.DONE:
            done[each.layer] = None
    for layer in done:
        yield progress.of_layer("Pushed", layer)
