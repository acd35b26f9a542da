"""Images that a build takes from registries: told as a pull is, in Docker's words."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.images import Images
from cnm.launcher.progress import Message, message, of_layer
from cnm.launcher.references import Reference, parse
from cnm.launcher.registries import NOBODY, registry_of
from cnm.launcher.registry_client import Asker
from cnm.launcher.registry_words import not_pulled

log = logging.getLogger("cnm.launcher")

_OF_BASE = "creating build container: "
_SOURCE = re.compile(r"initializing source docker://(?P<name>\S+?): ")
_BEGINS = re.compile(r"Trying to pull (?P<name>\S+)\.\.\.")
_LAYER = re.compile(r"Copying blob (?:sha256:)?(?P<layer>[0-9a-f]{12})[0-9a-f]*(?P<is_here> skipped: .*)?")
_OTHERS = ("Getting image source signatures", "Copying config ", "Writing manifest to image destination")
_END = "Storing signatures"
"""podman's last line of a pull."""


class Sources:
    """Those of one build. Made before podman looks at any."""

    def __init__(self, recipe: Recipe, request: BuildRequest, images: Images) -> None:
        self._request, self._images = request, images
        names = (_name(each) for each, found in recipe.sources.items() if request.pull or not found)
        self._names = {str(name): name for name in names if name is not None}
        """Of images that may be pulled."""
        self._before = images.manifests() if self._names else {}
        self._is_pulling = False
        self._begun: set[str] = set()

    def heard(self, line: str) -> Iterator[Message] | None:
        """What is told of a line of podman's about a pull; None for any other."""
        if (found := _BEGINS.fullmatch(line)) and found["name"] in self._names:
            self._is_pulling = True
            return iter(_told_begin(self._names[found["name"]]))
        if not self._is_pulling:
            return None
        if found := _LAYER.fullmatch(line):
            return iter(self._told_layer(found["layer"], is_here=bool(found["is_here"])))
        if line == _END:
            self._is_pulling = False
            return iter(())
        return iter(()) if line.startswith(_OTHERS) else None

    def _told_layer(self, layer: str, *, is_here: bool) -> list[Message]:
        """podman tells of it when it begins, and some layers at their ends, too."""
        if layer in self._begun:
            return []
        self._begun.add(layer)
        return [message("Already exists", layer) if is_here else of_layer("Pulling fs layer", layer)]

    def failed(self, text: str, base: str) -> CnmError | None:
        """Why an image did not come, by podman's text; None where it tells of something else.

        `base` is the image of the stage that was built.
        """
        found = _SOURCE.search(text)
        if found is None and not text.startswith(_OF_BASE):
            return None
        name = _name(found["name"] if found else base)
        words = text[found.start() :] if found else text.removeprefix(_OF_BASE)
        if name is None:
            return CnmError(words)
        registry = registry_of(name.repository)
        asker = Asker(registry, self._request.credentials.get(registry, NOBODY))
        return not_pulled(CnmError(words), name, asker)

    def note(self) -> None:
        """What came is known by its digest, as what `docker pull` brings."""
        for name in self._names.values():
            try:
                self._images.pulled(self._images.find(str(name)).id, name, self._before)
            except NotFound:  # podman did not need it
                continue
            except CnmError as error:
                log.warning("the digest of %s is not noted: %s", name, error)


def _name(reference: str) -> Reference | None:
    """None for an id."""
    try:
        return parse(reference).with_tag
    except InvalidParameter:
        return None


def _told_begin(name: Reference) -> list[Message]:
    _, _, path = name.repository.partition("/")
    return [message(f"Pulling from {path}", name.tag or str(name))]
