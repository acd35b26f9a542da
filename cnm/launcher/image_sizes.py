"""What images take of the disk, layer by layer: those that several share are there once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from cnm.launcher.image_config import Image, chain_ids


def layer_sizes(images: Sequence[Image]) -> dict[str, int]:
    """Bytes of each layer, by what it is called when it is deleted."""
    return {layer: size for image in images for layer, size in _layers(image)}


def shared_sizes(images: Sequence[Image]) -> dict[str, int]:
    """Bytes of what each has in common with another of them, by its id."""
    counts = Counter(layer for image in images for layer, _ in _layers(image))
    return {image.id: sum(size for layer, size in _layers(image) if counts[layer] > 1) for image in images}


def _layers(image: Image) -> Iterator[tuple[str, int]]:
    return zip(chain_ids(image.diff_ids), image.layer_sizes, strict=False)
