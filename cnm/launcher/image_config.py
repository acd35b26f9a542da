"""An image's own document: read into an `Image`, and written for images that are made here.

The form is Docker's (image spec v1.2) and OCI's (image-spec, config.md), which are the same but for a few fields.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.launcher.storage import StoredImage, StoredLayer
from cnm.wire.containers import Config

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""Go's names of what uname(2) says, where they differ."""
_LINUX = "linux"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one layer came to be; `created` is RFC 3339."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class _RootFs(msgspec.Struct, kw_only=True):
    type: str = "layers"
    diff_ids: tuple[str, ...] | None = ()


class _Document(msgspec.Struct, kw_only=True, omit_defaults=True):
    architecture: str = ""
    variant: str = ""
    os: str = ""
    author: str = ""
    comment: str = ""
    created: str | None = None
    config: Config | None = None
    history: tuple[History, ...] | None = ()
    rootfs: _RootFs = msgspec.field(default_factory=_RootFs)
    parent: str = ""


class Platform(NamedTuple):
    """What machines an image is for, in Go's words."""

    architecture: str
    variant: str = ""
    """As `v7` of `arm`."""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Of OS, OS/ARCHITECTURE, OS/ARCHITECTURE/VARIANT or ARCHITECTURE; this machine's where it says nothing.

        Raises InvalidParameter for another system than Linux.
        """
        system, _, rest = text.lower().partition("/")
        if system in _ARCHITECTURES or system in _ARCHITECTURES.values():
            system, rest = _LINUX, text.lower()
        if system not in ("", _LINUX):
            raise InvalidParameter(
                f"operating system is not supported: {system}: images are for {_LINUX} here"
            )
        machine, _, variant = (rest or os.uname().machine).partition("/")
        return cls(_ARCHITECTURES.get(machine, machine), variant)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image in the store."""

    id: str
    """ "sha256:" and 64 hex digits, of its config: the one that Docker shows for the same image."""
    names: tuple[str, ...]
    """ "docker.io/library/busybox:latest", and those by digest, "…/busybox@sha256:…"."""
    layers: tuple[str, ...]
    """Ids in containers-storage, the lowest first."""
    config: Config
    """The defaults of its containers; shared by all that read it, so not to be changed in place."""
    created: int
    """Nanoseconds since 1970, 0 where it does not say."""
    size: int
    """Bytes of all layers as tars, uncompressed."""
    architecture: str
    os: str
    author: str
    comment: str
    history: tuple[History, ...]
    diff_ids: tuple[str, ...]
    parent: str = ""
    """Id of the image that it was committed from, here; "" for others."""
    layer_sizes: tuple[int, ...] = ()
    """Bytes of each of `layers`."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Its names but those by digest; none for a dangling one."""
        return tuple(name for name in self.names if "@" not in name)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if "@" in name)


_DECODER = msgspec.json.Decoder(_Document)


def read(
    document: bytes, stored: StoredImage, names: tuple[str, ...], layers: Sequence[StoredLayer]
) -> Image:
    """Raises CnmError, which says how it is damaged, for a document that is."""
    ident = f"sha256:{stored.id}"
    if digest_of(document) != ident:
        raise CnmError("its configuration is not what was stored")
    try:
        found = _DECODER.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CnmError(f"its configuration cannot be read: {error}") from None
    return Image(
        id=ident,
        names=names,
        layers=tuple(layer.id for layer in layers),
        config=found.config or Config(),
        created=nanoseconds(found.created or ""),
        size=sum(layer.diff_size for layer in layers),
        architecture=found.architecture,
        os=found.os,
        author=found.author,
        comment=found.comment,
        history=found.history or (),
        diff_ids=found.rootfs.diff_ids or (),
        parent=found.parent,
        layer_sizes=tuple(layer.diff_size for layer in layers),
    )


def derived(
    parent: Image | None,
    config: Config,
    layer: str,
    *,
    author: str,
    comment: str,
    created_by: str,
    platform: Platform | None = None,
) -> bytes:
    """The document of a new image: `parent`'s layers and one of digest `layer`, "" where nothing changed in files.

    `platform`: of one without a parent; this machine's where it is None.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    step = History(created=now, created_by=created_by, author=author, comment=comment, empty_layer=not layer)
    diff_ids = (*(parent.diff_ids if parent else ()), *((layer,) if layer else ()))
    platform = Platform(parent.architecture) if parent else platform or Platform.parse("")
    document = _Document(
        architecture=platform.architecture,
        variant=platform.variant,
        os=_LINUX,
        author=author,
        comment=comment,
        created=now,
        config=config,
        history=(*(parent.history if parent else ()), step),
        parent=parent.id if parent else "",
    )
    built = msgspec.to_builtins(document)
    built["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    return msgspec.json.encode(built)


def check_platform(image: Image, reference: str, wanted: str) -> None:
    """`wanted` is OS, OS/ARCHITECTURE or ARCHITECTURE, with a variant or without. Raises NotFound in Docker's words."""
    words = [_ARCHITECTURES.get(word, word) for word in wanted.lower().split("/")]
    known = [image.os or _LINUX, image.architecture]
    if words[:2] not in (known, known[:1], known[1:]) and words[0] != known[1]:
        raise NotFound(
            f"image with reference {reference} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {'/'.join(known)}"
        )


def manifest(config: bytes, layers: Sequence[tuple[str, int]]) -> bytes:
    """Docker's manifest (schema 2) of a config document and layers (digest, bytes), the lowest first."""
    described: list[dict[str, Any]] = [
        {"mediaType": _LAYER, "size": size, "digest": digest} for digest, size in layers
    ]
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(config), "digest": digest_of(config)},
            "layers": described,
        }
    )


def of_layers(diff_ids: Sequence[str]) -> bytes:
    """The document of an image that nobody makes containers from."""
    return msgspec.json.encode(_Document(rootfs=_RootFs(diff_ids=tuple(diff_ids))))


def digest_of(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """What Docker calls the layers, each with those below it (OCI image-spec, config.md, "Layer ChainID")."""
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(digest_of(f"{found[-1]} {diff_id}".encode()) if found else diff_id)
    return found


def nanoseconds(text: str) -> int:
    """Since 1970, of a time as RFC 3339 has it; 0 for anything else."""
    found = _TIME.fullmatch(text)
    if found is None:
        return 0
    seconds = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00")).timestamp()
    return max(0, int(seconds) * 1_000_000_000 + int((found[2] or "").ljust(9, "0")))
