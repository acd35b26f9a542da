"""Building images: Docker's classic builder."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from flask import Response, request

from cnm.api.routes import Routes
from cnm.errors import InvalidParameter
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.building import request as requests
from cnm.launcher.building.progress import Message, said
from cnm.wire import codec

routes = Routes()

_REGISTRIES = "X-Registry-Config"
_HUB = "https://index.docker.io/v1/"
_SEVERAL = ("t", "extrahosts")


class _Login(msgspec.Struct):
    """As clients send it of a registry."""

    username: str = ""
    password: str = ""
    auth: str = ""


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
        "platform": "as `linux/amd64`",
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


def _list(call: Call[None], name: str) -> list[str]:
    found: list[str] = call.query.getlist(name) if hasattr(call.query, "getlist") else []
    return found


def _lines(messages: Iterable[Message | None]) -> Iterator[bytes]:
    for message in messages:
        yield b"" if message is None else codec.encode(message) + b"\r\n"


def _quiet(messages: Iterable[Message | None]) -> Iterator[Message | None]:
    """The image's id alone; everything where it fails."""
    kept: list[Message] = []
    image = ""
    for message in messages:
        if message is None:
            yield None
            continue
        kept.append(message)
        image = message.get("aux", {}).get("ID", image)
    yield from kept if "error" in kept[-1] else [said(f"{image}\n")]


def _credentials() -> dict[str, str]:
    """ "USER:PASSWORD" in base64, by the registry's name. Raises InvalidParameter."""
    text = request.headers.get(_REGISTRIES, "")
    if not text:
        return {}
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        logins = msgspec.json.decode(decoded, type=dict[str, _Login] | None) or {}
    except (ValueError, msgspec.DecodeError):
        raise InvalidParameter(f"the header {_REGISTRIES} cannot be read") from None
    return {_registry(name): _secret(login) for name, login in logins.items()}


def _registry(name: str) -> str:
    return "docker.io" if name == _HUB else name


def _secret(login: _Login) -> str:
    return login.auth or base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


@routes.post("/build/prune", query={"filters": "makes no difference", "all": "makes no difference"})
def prune(call: Call[None]) -> dict[str, Any]:
    """Forget builds: each step is looked for anew. The images that steps made go by `image prune`."""
    keys, space = call.engine.builds.memory.clear()
    return {"CachesDeleted": keys or None, "SpaceReclaimed": space}
