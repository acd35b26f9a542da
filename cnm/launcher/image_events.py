"""Events of images: what is told of each, in Docker's words (LogImageEvent of 20.10)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable

from cnm.errors import NotFound
from cnm.events import EventBus
from cnm.launcher.image_config import Image
from cnm.launcher.images import Images
from cnm.launcher.references import familiar, normalised
from cnm.launcher.removal import Removed


class ImageEvents:
    """Thread-safe."""

    def __init__(self, images: Images, events: EventBus) -> None:
        self._images, self._events = images, events

    def tell(self, action: str, ident: str, name: str = "") -> None:
        """`name` is what the event calls the image, its id where that is ""; its labels are told, too."""
        labels: dict[str, str] = {}
        with contextlib.suppress(NotFound):  # it may have been removed already
            labels = self._images.find(ident).config.labels or {}
        self._events.publish("image", action, ident, **{**labels, "name": name or ident})

    def tell_tagged(self, ident: str, reference: str) -> None:
        """`reference` is what a client calls it from now on; "" for nothing. A tag that it does not say is not told."""
        if reference:
            name = familiar(normalised(reference))
            has_tag = ":" in reference.rpartition("/")[2]
            self.tell("tag", ident, name if has_tag else name.rpartition(":")[0])

    def tell_loaded(self, lines: Iterable[str]) -> None:
        """Of the answer to a load: an event of each image but those that somebody has removed already."""
        idents = dict[str, None]()
        for line in lines:
            with contextlib.suppress(NotFound):
                idents[self._images.find(line.partition(": ")[2]).id] = None
        for ident in idents:
            self.tell("load", ident)

    def tell_removed(self, image: Image, removed: Iterable[Removed], known: Collection[str]) -> None:
        """Of the answer to a removal of `image`: what of it were images, `known` ids, and not layers.

        Digests that went with the last tag of their repository are not told of.
        """
        for place, each in enumerate(removed):
            if each.untagged and place and "@" in each.untagged:
                continue
            if each.untagged:
                self.tell("untag", image.id)
            elif each.deleted in known:
                self._events.publish("image", "delete", each.deleted, name=each.deleted)
