"""Images of archives of files: of a request's body, or of what somebody serves by http or https."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from flask import Response

from cnm.errors import CnmError
from cnm.launcher import progress
from cnm.launcher.api import registry
from cnm.launcher.api.calls import Call
from cnm.launcher.fetching import Fetched, checked, fetching
from cnm.launcher.progress import Message
from cnm.wire import codec

_BODY = "-"
_TOLD_EACH = 100
"""Parts of a file after each of which it is told how far it is."""
_TOLD_BYTES = 512 << 10
"""The same where nobody knows how large it is."""


def import_image(call: Call[None], source: str) -> Response:
    """`source` is "-" for the body, or a URL, whose http:// may be left out."""
    if source != _BODY:
        url = source if "://" in source else f"http://{source}"
        return registry.streamed(call, _fetched(call, checked(url), source))
    ident = _taken_in(call, call.stream, source)
    return Response(codec.encode({"status": ident}) + b"\r\n", content_type="application/json")


def _taken_in(call: Call[Any], archive: BinaryIO, source: str) -> str:
    """The new image's id."""
    tag, name = call.query.get("tag", ""), call.query.get("repo", "")
    reference = f"{name}:{tag}" if name and tag else name
    changes = call.query.getlist("changes") if hasattr(call.query, "getlist") else []
    message = call.query.get("message", "") or f"Imported from {source}"
    platform = call.query.get("platform", "")
    ident = call.engine.parts.images.import_tar(archive, reference, changes, message, platform)
    call.engine.image_events.tell_tagged(ident, reference)
    call.engine.image_events.tell("import", ident)
    return ident


def _fetched(call: Call[Any], url: str, source: str) -> Iterator[Message | None]:
    """Docker's lines (daemon/import.go)."""
    with call.engine.parts.images.client.place() as place, fetching(url) as found:
        yield progress.message(f"Downloading from {url}")
        path = os.path.join(place, "fetched")
        yield from _written(path, found)
        with open(path, "rb") as archive:
            ident = _taken_in(call, archive, source)
    yield progress.message(ident)


def _written(path: str, found: Fetched) -> Iterator[Message]:
    """How far it is, now and then. Raises CnmError."""
    step = min(found.size // _TOLD_EACH or _TOLD_BYTES, _TOLD_BYTES)
    size = told = 0
    try:
        with open(path, "wb") as file:
            for piece in found.pieces:
                file.write(piece)
                size += len(piece)
                if size - told > step or size == found.size:
                    told = size
                    yield progress.of_layer("Importing", "", size, found.size)
    except OSError as error:
        raise CnmError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
