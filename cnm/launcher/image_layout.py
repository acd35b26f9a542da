"""Images as directories that podman takes in: what it cannot make itself is laid out there as documents and blobs."""

from __future__ import annotations

import os

from cnm.launcher.image_config import digest_of
from cnm.launcher.image_index import digits
from cnm.launcher.podman import Podman


def lay_out(place: str, document: bytes, manifest: bytes) -> str:
    """An image without its layers, as dir: of containers-transports(5) has it; its id. Raises OSError."""
    image = digest_of(document)
    texts = {
        "version": b"Directory Transport Version: 1.1\n",
        "manifest.json": manifest,
        digits(image): document,
    }
    for file_name, text in texts.items():
        with open(os.path.join(place, file_name), "wb") as file:
            file.write(text)
    return image


def copy_in(podman: Podman, place: str) -> None:
    """`place` holds the blobs that are new; what the store has podman does not read. Raises CnmError."""
    podman.run("pull", *podman.copying(), f"dir:{place}")
