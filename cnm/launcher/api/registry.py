"""Registries: pull, push, search, log in; and archives of images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import Any

from flask import Response, request

from cnm.api import filters
from cnm.api.routes import Routes
from cnm.errors import CnmError, InvalidParameter, Unauthorized
from cnm.launcher import progress, searching
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.progress import Message
from cnm.launcher.references import Reference, parse
from cnm.launcher.registries import NOBODY, Credentials, address, credentials
from cnm.launcher.registry_client import Asker
from cnm.wire import codec

routes = Routes()

_TAR = "application/x-tar"
_SEARCH_FILTERS = frozenset({"is-automated", "is-official", "stars"})


def pull(call: Call[None]) -> Response:
    """Of `POST /images/create?fromImage=`; its errors have a status of their own until podman knows what to fetch."""
    name, tag = parse(call.query.get("fromImage", "")), call.query.get("tag", "")
    if tag:
        name = parse(f"{name.repository}{'@' if ':' in tag else ':'}{tag}")
    pulls, asker = call.engine.pulls, _asker()
    if not name.tag and not name.digest:
        return _streamed(call, pulls.pull_all(name, asker))
    return _streamed(call, pulls.pull(_exact(name), asker, call.query.get("platform", "")))


def _exact(name: Reference) -> Reference:
    """A digest says more than a tag beside it."""
    return name._replace(tag="") if name.digest else name


def _asker() -> Credentials:
    return credentials(request.headers.get("X-Registry-Auth", ""))


@routes.post("/images/{image}/push", query={"tag": "which; all that it has where nothing is said"})
def push(call: Call[None], image: str) -> Response:
    """Send an image to its registry."""
    name = parse(image)
    tag = call.query.get("tag", "") or name.tag
    return _streamed(call, call.engine.pushes.push(name.repository, tag, _asker()))


def _streamed(call: Call[Any], messages: Iterator[Message | None]) -> Response:
    first = next((each for each in messages if each is not None), None)
    return endless(call, _lines(messages, first), "application/json")


def _lines(messages: Iterator[Message | None], first: Message | None) -> Iterator[bytes]:
    """One that is None has the server look for its client, who may have gone: then nothing goes on for him."""
    with closing(messages):  # type: ignore[type-var]
        try:
            for each in chain([first], messages):
                yield b"" if each is None else codec.encode(each) + b"\r\n"
        except CnmError as error:
            yield codec.encode(progress.failure(str(error))) + b"\r\n"


@routes.get("/images/get", query={"names": "as often as wanted"}, media_type=_TAR)
def save_all(call: Call[None]) -> Response:
    """An archive of several images."""
    names = call.query.getlist("names") if hasattr(call.query, "getlist") else []
    return endless(call, _begun(call.engine.saves.save(names)), _TAR)


@routes.get("/images/{image}/get", media_type=_TAR)
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
)
def search(call: Call[None]) -> list[dict[str, Any]]:
    """Look for images in a registry."""
    if not (term := call.query.get("term", "")):
        raise InvalidParameter("term is required: say what to look for")
    wanted = filters.decode(call.query.get("filters", ""), _SEARCH_FILTERS)
    client = call.engine.parts.images.client
    return searching.search(client, term, call.number("limit"), wanted, _asker())


@routes.post("/auth", body=Credentials)
def log_in(call: Call[Credentials]) -> dict[str, str]:
    """Whether a registry takes a password."""
    given = call.body
    registry = address(given.server_address)
    try:
        call.engine.parts.images.client.ask(
            "login",
            Asker(registry, NOBODY),
            *("--username", given.username, "--password-stdin", registry),
            given=given.password,
        )
    except CnmError as error:
        if "invalid username/password" not in str(error):
            raise CnmError(str(error)) from None
        raise Unauthorized(
            f"login attempt to https://{registry}/v2/ failed with status: 401 Unauthorized"
        ) from None
    return {"IdentityToken": "", "Status": "Login Succeeded"}
