"""Files of containers, as tar: cp, export."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from flask import Response, request

from cnm.api.routes import Routes
from cnm.errors import InvalidParameter
from cnm.launcher import archive
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.container import Container
from cnm.launcher.modes import UserMapping, user_mapping
from cnm.launcher.unpacking import Rules
from cnm.launcher.users import find_user
from cnm.wire import codec

routes = Routes()

_TAR = "application/x-tar"
_PATH = {"path": "in the container"}


def _path(call: Call[None]) -> str:
    if not (path := call.query.get("path", "")):
        raise InvalidParameter("bad parameter: path cannot be empty")
    return path


def _stat_header(found: archive.PathStat) -> dict[str, str]:
    return {"X-Docker-Container-Path-Stat": base64.b64encode(codec.encode(found)).decode()}


@routes.get("/containers/{container}/archive", query=_PATH, media_type=_TAR, is_slow=True)
def read(call: Call[None], container: str) -> Response:
    """A tar of what is at a path; HEAD tells only what is there."""
    found, path = call.engine.registry.find(container), _path(call)
    with ExitStack() as stack:
        root = stack.enter_context(call.engine.files_of(found))
        if request.method == "HEAD":
            return Response(headers=_stat_header(archive.stat(root, path, container=container)))
        status, pieces = archive.read(root, path, container=container, mapping=_mapping(found))
        kept = stack.pop_all()
    call.engine.parts.tell("archive-path", found)
    response = endless(call, _closing(kept, pieces), _TAR)
    response.headers.extend(_stat_header(status))
    return response


def _closing(stack: ExitStack, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The root file system stays for as long as it is read."""
    with stack:
        yield from pieces


def _mapping(container: Container) -> UserMapping | None:
    return user_mapping(container.host.userns_mode)


def write(call: Call[None], container: str) -> Response:
    """Unpack a tar at a path."""
    found, path = call.engine.registry.find(container), _path(call)
    read_only = bool(found.host.readonly_rootfs)
    with call.engine.files_of(found) as root:
        rules = Rules(call.flag("noOverwriteDirNonDir"), _owner(call, found, root), _mapping(found))
        archive.write(root, path, call.stream, container=container, rules=rules, read_only=read_only)
    call.engine.parts.tell("extract-to-dir", found)
    return Response(status=200)


def _owner(call: Call[None], container: Container, root: str) -> tuple[int, int] | None:
    """Who is to own everything: the container's user, where that is asked for."""
    if not call.flag("copyUIDGID"):
        return None
    user = find_user(root, container.config.user or "")
    return user.uid, user.gid


routes.put(
    "/containers/{container}/archive",
    query={
        **_PATH,
        "noOverwriteDirNonDir": "no directory in a file's place, nor the other way round",
        "copyUIDGID": "the container's user is to own all of it",
    },
    is_slow=True,
)(write)


@routes.get("/containers/{container}/export", media_type=_TAR, is_slow=True)
def export(call: Call[None], container: str) -> Response:
    """A tar of a container's whole file system."""
    found = call.engine.registry.find(container)
    with ExitStack() as stack:
        root = stack.enter_context(call.engine.own_files_of(found))
        kept: Any = stack.pop_all()
    call.engine.parts.tell("export", found)
    return endless(call, _closing(kept, archive.export(root, _mapping(found))), _TAR)
