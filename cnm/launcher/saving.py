"""Archives of images, as `docker save` writes them, by podman; they stream, and nothing is written on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnm.errors import InvalidParameter
from cnm.launcher.image_config import Image
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.image_index import digits
from cnm.launcher.images import Images
from cnm.launcher.references import identifier, parse


class Saves:
    """Thread-safe."""

    def __init__(self, images: Images, events: ImageEvents) -> None:
        self._images, self._events = images, events

    def save(self, references: Sequence[str]) -> Iterator[bytes]:
        """An archive of all of them; of a repository without a tag all tags that it has here.

        Closing the iterator ends it. Raises NotFound and InvalidParameter before the first piece, CnmError then.
        """
        if not references:
            raise InvalidParameter("no images are named: name one at least")
        chosen: dict[str, Image] = {}
        for reference in references:
            chosen |= self._chosen(reference)
        return self._pieces(list(chosen), list(dict.fromkeys(image.id for image in chosen.values())))

    def _chosen(self, reference: str) -> dict[str, Image]:
        """Images by what they are called in the archive, their digits where they have no name there."""
        name = None if identifier(reference) else parse(reference)
        if name and not name.tag and not name.digest and (tags := self._all_tags(name.repository)):
            return tags
        found = self._images.find(reference)
        return {str(name) if str(name) in found.tags else digits(found.id): found}

    def _all_tags(self, repository: str) -> dict[str, Image]:
        return {
            name: image
            for image in self._images.all()
            for name in image.tags
            if parse(name).repository == repository
        }

    def _pieces(self, names: Sequence[str], idents: Sequence[str]) -> Iterator[bytes]:
        yield from self._images.client.saving(*names)
        for ident in idents:
            self._events.tell("save", ident)
