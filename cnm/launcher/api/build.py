"""Building images: Docker's classic builder."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
from flask import Response, request

from cnm.api.routes import Routes
from cnm.errors import InvalidParameter
from cnm.http.server import UPGRADE
from cnm.http.upgrade import Connection
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.building import request as requests
from cnm.launcher.building.progress import Message, said
from cnm.launcher.registries import Credentials, address
from cnm.wire import codec

routes = Routes()

_REGISTRIES = "X-Registry-Config"
_SEVERAL = ("t", "extrahosts")
_PIECE = 1 << 16
_KEPT = 1 << 20
"""Characters of what steps say that a quiet build which fails is told with: the last."""


@routes.post(
    "/build",
    query={
        "dockerfile": "path of the Dockerfile in the context, which is the body: a tar, compressed or not",
        "t": "a name of the image, as often as wanted",
        "buildargs": 'JSON: `{"NAME": "VALUE"}`',
        "labels": 'JSON: `{"NAME": "VALUE"}`',
        "target": "the last stage to build",
        "nocache": "do every step again",
        "pull": "ask the registry for newer images",
        "networkmode": "of RUN: default, none, host, container:ID or a network's name",
        "extrahosts": "NAME:ADDRESS, as often as wanted",
        "squash": "one layer of all steps",
        "q": "tell the image's id alone",
        "memory": "bytes, for RUN",
        "memswap": "bytes, for RUN",
        "cpushares": "for RUN",
        "cpuperiod": "microseconds, for RUN",
        "cpuquota": "microseconds, for RUN",
        "cpusetcpus": "for RUN, as 0-1",
        "cpusetmems": "for RUN, as 0-1",
        "shmsize": "bytes, for RUN",
        "ulimits": "JSON, for RUN",
        "cgroupparent": "for RUN",
        "platform": "as `linux/amd64`, for what has to be fetched, or begins with nothing",
        "isolation": "what is not `default` is refused",
        "securityopt": "is refused",
        "rm": "makes no difference: nothing is left of a build",
        "forcerm": "makes no difference: nothing is left of a build",
        "cachefrom": "makes no difference: all images here are looked at",
        "remote": "is refused",
        "version": "2, BuildKit, is refused",
    },
    is_slow=True,
)
def build(call: Call[None]) -> Response:
    """Make an image of a Dockerfile."""
    several = {name: _list(call, name) for name in _SEVERAL}
    wanted = requests.read(call.query, several)
    wanted = msgspec.structs.replace(wanted, credentials=_credentials())
    builds = call.engine.builds
    begun = builds.begin(wanted, call.stream)
    told = begun.messages()
    response = endless(call, _lines(_quiet(told) if wanted.quiet else told), "application/json")
    response.call_on_close(lambda: builds.end(begun))
    return response


@routes.post("/session")
def session(call: Call[None]) -> Response:
    """Take the connection by which BuildKit would ask a client for files, and never ask.

    A client that is refused it says no more than that; of a build that is refused, which it asks for meanwhile, it
    tells why.
    """
    call.environ[UPGRADE] = _await_end
    return Response()


def _await_end(connection: Connection) -> None:
    while connection.socket.recv(_PIECE):
        pass


def _list(call: Call[None], name: str) -> list[str]:
    found: list[str] = call.query.getlist(name) if hasattr(call.query, "getlist") else []
    return found


def _lines(messages: Iterable[Message | None]) -> Iterator[bytes]:
    for message in messages:
        yield b"" if message is None else codec.encode(message) + b"\r\n"


def _quiet(messages: Iterable[Message | None]) -> Iterator[Message | None]:
    """The image's id alone; what was said last where it fails."""
    kept: deque[Message] = deque()
    size, image, is_whole = 0, "", True
    for message in messages:
        if message is None:
            yield None
            continue
        kept.append(message)
        size += len(message.get("stream", ""))
        while size > _KEPT:
            size -= len(kept.popleft().get("stream", ""))
            is_whole = False
        image = message.get("aux", {}).get("ID", image)
    if "error" in kept[-1]:
        yield None if is_whole else said("[what was said before is left out]\n")
        yield from kept
    else:
        yield said(f"{image}\n")


def _credentials() -> dict[str, Credentials]:
    """By the registry's name; a client may know of others than registries. Raises InvalidParameter."""
    text = request.headers.get(_REGISTRIES, "")
    if not text:
        return {}
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        logins = msgspec.json.decode(decoded, type=dict[str, Credentials] | None) or {}
    except (ValueError, msgspec.DecodeError):
        raise InvalidParameter(f"the header {_REGISTRIES} cannot be read") from None
    found = {}
    for name, login in logins.items():
        with suppress(InvalidParameter, ValueError):
            found[address(name)] = login
    return found


@routes.post("/build/prune", query={"filters": "makes no difference", "all": "makes no difference"})
def prune(call: Call[None]) -> dict[str, Any]:
    """Forget builds: each step is looked for anew. The images that steps made go by `image prune`."""
    keys, space = call.engine.builds.memory.clear()
    return {"CachesDeleted": keys or None, "SpaceReclaimed": space}
