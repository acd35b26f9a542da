"""Archives of images: what `docker save` writes, and OCI's; the names in them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

import msgspec

from cnm.errors import InvalidParameter

_DOCKER = "manifest.json"
_OCI = "index.json"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class _DockerImage(msgspec.Struct):
    names: list[str] | None = msgspec.field(name="RepoTags", default=None)


class _Descriptor(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct):
    manifests: list[_Descriptor] | None = None


class Archived(NamedTuple):
    """What an archive says that it has; names are as they are written there."""

    images: tuple[tuple[str, ...], ...]
    """Of each of Docker's, in their order, the names; nothing for OCI's."""
    names: frozenset[str]
    """Of all."""


def read(path: str) -> Archived:
    """Raises InvalidParameter for a file that is no archive of images."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive}
            if _DOCKER in members and (file := archive.extractfile(members[_DOCKER])):
                images = tuple(_docker_images(file))
                return Archived(images, frozenset(name for names in images for name in names))
            if _OCI in members and (file := archive.extractfile(members[_OCI])):
                return Archived((), frozenset(_oci_names(file)))
    except (tarfile.TarError, msgspec.DecodeError, ValueError, KeyError) as error:
        raise InvalidParameter(f"the archive of images cannot be read: {error}") from None
    raise InvalidParameter(f"unrecognized image format: the archive has neither {_DOCKER} nor {_OCI}")


def _docker_images(file: IO[bytes]) -> Iterator[tuple[str, ...]]:
    for image in msgspec.json.decode(file.read(), type=list[_DockerImage]):
        yield tuple(image.names or ())


def _oci_names(file: IO[bytes]) -> Iterator[str]:
    for descriptor in msgspec.json.decode(file.read(), type=_Index).manifests or ():
        yield from (text for key, text in (descriptor.annotations or {}).items() if key in _NAMES)
