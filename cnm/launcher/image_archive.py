"""Archives of images: what `docker save` writes, and OCI's; the names in them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

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


def names_in(path: str) -> set[str]:
    """As they are written there. Raises InvalidParameter for a file that is no archive of images."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive}
            for name, read in ((_DOCKER, _docker_names), (_OCI, _oci_names)):
                if name in members and (file := archive.extractfile(members[name])):
                    return set(read(file))
    except (tarfile.TarError, msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise InvalidParameter(f"the archive of images cannot be read: {error}") from None
    raise InvalidParameter(f"unrecognized image format: the archive has neither {_DOCKER} nor {_OCI}")


def _docker_names(file: IO[bytes]) -> Iterator[str]:
    for image in msgspec.json.decode(file.read(), type=list[_DockerImage]):
        yield from image.names or ()


def _oci_names(file: IO[bytes]) -> Iterator[str]:
    for descriptor in msgspec.json.decode(file.read(), type=_Index).manifests or ():
        yield from (text for key, text in (descriptor.annotations or {}).items() if key in _NAMES)
