"""Registries: pull, push, search, log in; and archives of images."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any, TypeVar

from flask import Response, request

from cnm.api import filters
from cnm.api.routes import Routes
from cnm.errors import CnmError, InvalidParameter, Unavailable
from cnm.launcher import logging_in, progress, searching
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.progress import Message
from cnm.launcher.references import Reference, parse
from cnm.launcher.registries import Credentials, credentials
from cnm.wire import codec

T = TypeVar("T")

routes = Routes()

_TAR = "application/x-tar"
_SEARCH_FILTERS = frozenset({"is-automated", "is-official", "stars"})


def pull(call: Call[None]) -> Response:
    """Of `POST /images/create?fromImage=`; its errors have a status of their own until podman knows what to fetch.

    That may be for ever: no worker waits for it.
    """
    name, tag = parse(call.query.get("fromImage", "")), call.query.get("tag", "")
    if tag:
        name = parse(f"{name.repository}{'@' if ':' in tag else ':'}{tag}")
    pulls, asker = call.engine.pulls, _asker()
    if not name.tag and not name.digest:
        return streamed(call, pulls.pull_all(name, asker))
    return streamed(call, pulls.pull(_exact(name), asker, call.query.get("platform", "")))


def _exact(name: Reference) -> Reference:
    """A digest says more than a tag beside it."""
    return name._replace(tag="") if name.digest else name


def _asker() -> Credentials:
    return credentials(request.headers.get("X-Registry-Auth", ""))


@routes.post(
    "/images/{image}/push", query={"tag": "which; all that it has where nothing is said"}, is_slow=True
)
def push(call: Call[None], image: str) -> Response:
    """Send an image to its registry."""
    name = parse(image)
    tag = call.query.get("tag", "") or name.tag
    return streamed(call, call.engine.pushes.push(name.repository, tag, _asker()))


def streamed(call: Call[Any], messages: Iterator[Message | None]) -> Response:
    """What goes wrong before the first message has a status of its own; None has it look for the client."""
    for first in messages:
        if first is not None:
            return endless(call, _lines(messages, first), "application/json")
        if call.has_left:
            break
    _close(messages)
    return Response()


def _close(work: Iterator[Any]) -> None:
    """What is done for nobody ends."""
    getattr(work, "close", lambda: None)()


def _lines(messages: Iterator[Message | None], first: Message) -> Iterator[bytes]:
    """One that is None has the server look for its client, who may have gone: then nothing goes on for him."""
    try:
        for each in chain([first], messages):
            yield b"" if each is None else codec.encode(each) + b"\r\n"
    except CnmError as error:
        yield codec.encode(progress.failure(str(error))) + b"\r\n"
    finally:
        _close(messages)


@routes.get("/images/get", query={"names": "as often as wanted"}, media_type=_TAR, is_slow=True)
def save_all(call: Call[None]) -> Response:
    """An archive of several images."""
    names = call.query.getlist("names") if hasattr(call.query, "getlist") else []
    return endless(call, _begun(call.engine.saves.save(names)), _TAR)


@routes.get("/images/{image}/get", media_type=_TAR, is_slow=True)
def save(call: Call[None], image: str) -> Response:
    """An archive of an image."""
    return endless(call, _begun(call.engine.saves.save([image])), _TAR)


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What goes wrong before the first piece has a status of its own."""
    return chain([next(pieces)], pieces)


@routes.get(
    "/images/search",
    query={
        "term": "HOST/ before it for another registry than Docker Hub",
        "limit": "1 to 100",
        "filters": "JSON",
    },
    is_slow=True,
)
def search(call: Call[None]) -> list[dict[str, Any]]:
    """Look for images in a registry."""
    if not (term := call.query.get("term", "")):
        raise InvalidParameter("term is required: say what to look for")
    wanted = filters.decode(call.query.get("filters", ""), _SEARCH_FILTERS)
    client = call.engine.parts.images.client
    return _awaited(call, searching.search(client, term, call.number("limit"), wanted, _asker()))


def _awaited(call: Call[Any], work: Generator[None, None, T]) -> T:
    """What it comes to; it ends where the client has gone. Raises Unavailable then, for nobody."""
    try:
        while True:
            next(work)
            if call.has_left:
                raise Unavailable("the client has gone")
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        work.close()


@routes.post("/auth", body=Credentials, is_slow=True)
def log_in(call: Call[Credentials]) -> dict[str, str]:
    """Whether a registry takes a password, or an identity token."""
    _awaited(call, logging_in.log_in(call.engine.parts.images.client, call.body))
    kept = call.body.identity_token if call.body.is_token else ""
    return {"IdentityToken": kept, "Status": "Login Succeeded"}
