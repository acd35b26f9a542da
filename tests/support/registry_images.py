"""Images put into a registry without passwords by its own protocol, so that no client's store has them."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from netns_fixtures import Host
from tests.support.image_store import entry, tar
from tests.support.registry import Registry

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Put(NamedTuple):
    """What is there now; all digests begin with "sha256:"."""

    id: str
    layers: tuple[str, ...]
    digest: str
    size: int
    """Of the manifest."""


def layer(name: str, content: bytes) -> bytes:
    """The tar of a layer of one file."""
    return tar((entry(name), content))


def put_image(
    host: Host, registry: Registry, name: str, tag: str, layers: Sequence[bytes], architecture: str = "amd64"
) -> Put:
    """`layers` are tars; compressed on the way."""
    blobs = [gzip.compress(each, 1, mtime=0) for each in layers]
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(each) for each in layers]},
            "history": [
                {"created": "2024-01-01T00:00:00Z", "created_by": f"layer {n}"} for n, _ in enumerate(layers)
            ],
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, each) for each in blobs],
    }
    with host.enter():
        for blob in (*blobs, config):
            _put_blob(registry, name, blob)
        content = json.dumps(manifest).encode()
        _put_manifest(registry, name, tag or _digest(content), _MANIFEST, content)
    return Put(_digest(config), tuple(map(_digest, blobs)), _digest(content), len(content))


def put_list(host: Host, registry: Registry, name: str, tag: str, images: dict[str, Put]) -> str:
    """One name for images of several architectures; the list's digest."""
    manifests = [
        {
            "mediaType": _MANIFEST,
            "digest": put.digest,
            "size": put.size,
            "platform": {"architecture": architecture, "os": "linux"},
        }
        for architecture, put in images.items()
    ]
    content = json.dumps({"schemaVersion": 2, "mediaType": _LIST, "manifests": manifests}).encode()
    with host.enter():
        _put_manifest(registry, name, tag, _LIST, content)
    return _digest(content)


def _put_blob(registry: Registry, name: str, blob: bytes) -> None:
    place = _ask(registry, "POST", f"/v2/{name}/blobs/uploads/")
    path = place.split(registry.name, 1)[-1]
    _ask(registry, "PUT", f"{path}&digest={_digest(blob)}", blob, "application/octet-stream")


def _put_manifest(registry: Registry, name: str, reference: str, kind: str, content: bytes) -> None:
    _ask(registry, "PUT", f"/v2/{name}/manifests/{reference}", content, kind)


def _ask(registry: Registry, method: str, path: str, body: bytes = b"", kind: str = "") -> str:
    """The place that the answer names."""
    connection = _connection(registry)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status}: {text.decode(errors='replace')}")
        return answer.getheader("Location", "")
    finally:
        connection.close()


def _connection(registry: Registry) -> http.client.HTTPConnection:
    if registry.is_plain:
        return http.client.HTTPConnection("127.0.0.1", registry.port, timeout=30)
    context = ssl.create_default_context(cafile=registry.authority.cert)
    return http.client.HTTPSConnection("127.0.0.1", registry.port, timeout=30, context=context)


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
