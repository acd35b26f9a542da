"""Images that nobody needs, removed together: what goes wrong with one does not keep the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from cnm.errors import CnmError, Conflict, NotFound
from cnm.launcher.image_config import Image
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.image_sizes import layer_sizes
from cnm.launcher.images import Images, InUse
from cnm.launcher.removal import Removed

log = logging.getLogger("cnm.launcher")


class Pruned(NamedTuple):
    removed: list[Removed]
    space: int
    """Bytes of the layers that went."""


class Pruning(NamedTuple):
    """One request. `is_wanted` chooses among whole images; None: all go, and what is damaged too."""

    images: Images
    events: ImageEvents
    in_use: InUse
    only_dangling: bool
    is_wanted: Callable[[Image], bool] | None = None

    def run(self) -> Pruned:
        """Containers' images stay, what builds that go on may need, and what came while an image is being made."""
        self.images.drop_layers()
        everything = self.images.all()
        sizes, known = layer_sizes(everything), {each.id for each in everything}
        removed: list[Removed] = []
        for image in everything:
            removed += self._pruned(image.id, known)
        removed += self._damaged()
        return Pruned(removed, sum(sizes.get(each.deleted, 0) for each in removed))

    def _pruned(self, ident: str, known: Collection[str]) -> list[Removed]:
        """It is looked at anew: whoever made it may have given it its name since, and need it no more."""
        removed: list[Removed] = []
        with self.images.renaming, suppress(NotFound):
            image = self.images.find(ident)
            for reference in (image.names or (ident,)) if self._is_chosen(image) else ():
                gone = self._removed(reference)
                self.events.tell_removed(image, gone, known)
                removed += gone
        return removed

    def _is_chosen(self, image: Image) -> bool:
        if (image.tags and self.only_dangling) or not (self.is_wanted is None or self.is_wanted(image)):
            return False
        return not list(self.in_use(image.id)) and not self.images.may_be_needed(image.id)

    def _removed(self, reference: str) -> list[Removed]:
        try:
            return self.images.remove(reference, force=False, in_use=self.in_use)
        except (Conflict, NotFound):  # another image needs it, or somebody was quicker
            return []
        except CnmError as error:
            log.warning("image %s is not pruned: %s", reference, error)
            return []

    def _damaged(self) -> Iterator[Removed]:
        """Nobody knows labels or times of these."""
        for image in self.images.damaged() if self.is_wanted is None else ():
            if not (image.names and self.only_dangling) and not self.images.may_be_needed(image.id):
                try:
                    yield from self.images.remove_damaged(image.id, self.in_use)
                except (Conflict, NotFound):
                    continue
                except CnmError as error:
                    log.warning("what is left of image %s stays: %s", image.id, error)
