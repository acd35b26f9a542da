"""Which manifest a registry has just given for an image, of all that the store has of it.

containers/image keeps each as `manifest-DIGEST`, a list of manifests too where the name was one's, and as `manifest`
that of the image itself which came last (storage/storage_image.go of 5.23). `digest` of the image stays the first's.
"""

from __future__ import annotations

from collections.abc import Collection

from cnm.launcher.storage import Storage, StoredImage

_PREFIX = "manifest-"


def manifests(image: StoredImage) -> frozenset[str]:
    """The digests of all."""
    keys = (key for key in image.big_data_digests if key.startswith(_PREFIX))
    return frozenset(key.removeprefix(_PREFIX) for key in keys)


def given(storage: Storage, image: StoredImage, before: Collection[str], recorded: Collection[str]) -> str:
    """The digest that the registry calls the image by: of the list, where it has one of several machines.

    `before`: the manifests that the store had before; `recorded`: the digests by which the repository was known here.
    Where nothing new came, what the repository was known by counts. Raises OSError.
    """
    own = image.big_data_digests.get("manifest", image.digest)
    lists = [each for each in sorted(manifests(image) - {own}) if _names(storage, image, each, own)]
    fresh = [each for each in (*lists, own) if each not in before]
    known = [each for each in (*lists, own) if each in recorded]
    return (fresh or known or [*lists, own])[0]


def _names(storage: Storage, image: StoredImage, manifest: str, wanted: str) -> bool:
    return wanted.encode() in storage.big_data(image.id, f"{_PREFIX}{manifest}")
