"""Archives of images as `docker save` writes them, also ones that are damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.support.image_store import entry, tar, text


class Archive(NamedTuple):
    id: str
    """ "sha256:" and 64 hex digits."""
    content: bytes


def archive(
    *names: str, layers: Sequence[bytes], config: dict[str, Any] | None = None, claimed: Sequence[bytes] = ()
) -> Archive:
    """An image of these tars. `claimed`: of which the document has the digests instead."""
    document = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": config or {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(each) for each in claimed or layers]},
            "history": [
                {"created": "2024-01-01T00:00:00Z", "created_by": f"layer {number}"}
                for number, _ in enumerate(layers)
            ],
        }
    )
    digits = _digest(document.encode()).removeprefix("sha256:")
    files = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": f"{digits}.json", "RepoTags": list(names), "Layers": files}]
    members = (
        text(f"{digits}.json", document),
        *((entry(name), layer) for name, layer in zip(files, layers, strict=True)),
        text("manifest.json", json.dumps(manifest)),
    )
    return Archive(f"sha256:{digits}", tar(*members))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
