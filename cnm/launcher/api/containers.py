"""Containers: made, started, ended, changed and shown."""

from __future__ import annotations

import functools
import time
from typing import Any

from flask import Response, request

from cnm.api import filters, times
from cnm.api.routes import Routes
from cnm.errors import InvalidParameter
from cnm.launcher import present
from cnm.launcher.api.calls import Call
from cnm.launcher.container import Container
from cnm.launcher.image_config import check_platform
from cnm.launcher.selection import CONTAINER_FILTERS, PRUNE_FILTERS, Known, selected
from cnm.launcher.top import Top
from cnm.wire import codec
from cnm.wire.containers import ContainerCreate, ContainerCreated, ContainerUpdate

routes = Routes()

_REMOVES_ITSELF_SINCE = (1, 25)
_NAMES_BESIDE_ALIASES_SINCE = (1, 45)
_LONGEST_EMPTY_BODY = 7
"""Bytes: Docker's limit for the start of a container, which old clients send "null" or "{}" with."""

_ONLY_BY_FILTER = {"filters": 'JSON: `{"status": ["running"]}`'}


@routes.post(
    "/containers/create",
    body=ContainerCreate,
    answer=ContainerCreated,
    status=201,
    query={"name": "its name", "platform": "what its image must be for, as `linux/amd64`"},
)
def create(call: Call[ContainerCreate]) -> ContainerCreated:
    """Create a container."""
    if call.version < _REMOVES_ITSELF_SINCE and call.body.host_config:
        call.body.host_config.auto_remove = False  # its client removes it
    if platform := call.query.get("platform", ""):
        check_platform(call.engine.parts.images.find(call.body.image or ""), call.body.image or "", platform)
    made, warnings = call.engine.create(call.query.get("name", ""), call.body)
    return ContainerCreated(id=made.id, warnings=warnings)


@routes.get(
    "/containers/json",
    query={
        **_ONLY_BY_FILTER,
        "all": "those that do not run too",
        "limit": "the last so many",
        "size": "with sizes",
    },
)
def list_containers(call: Call[None]) -> list[dict[str, Any]]:
    """List containers."""
    engine = call.engine
    wanted = filters.decode(call.query.get("filters", ""), CONTAINER_FILTERS)
    endpoints = functools.cache(engine.parts.sandboxes.all)
    known = Known(
        engine.registry.find,
        engine.parts.images.family,
        lambda text: str(engine.parts.sandboxes.network(text)["Name"]),
        engine.health.status,
        lambda each: present.ports_listed(each, endpoints().get(each.id, ())),
    )
    everything, limit = call.flag("all"), call.number("limit")
    found = selected(engine.registry.all(), wanted, known, everything=everything, limit=limit)
    joined = endpoints() if any(c.state.status.is_alive for c in found) else {}
    joined = joined | engine.parts.sandboxes.left(found)
    return _lines(call, found, joined, sizes=call.flag("size"))


def list_all(call: Call[None]) -> list[dict[str, Any]]:
    """Every container with its size, for what sums them up."""
    return _lines(call, call.engine.registry.all(), {}, sizes=True)


def _lines(
    call: Call[None], containers: list[Container], endpoints: dict[str, Any], *, sizes: bool
) -> list[dict[str, Any]]:
    names = {image.id: image.names for image in call.engine.parts.images.all()}
    shown = []
    for container in containers:
        name = present.image_name(container, names.get(container.image, ()))
        line = present.listed(
            container, endpoints.get(container.id, ()), name, call.engine.health.status(container.id)
        )
        shown.append(
            line | ({key: size for key, size in _sizes(call, container).items() if size} if sizes else {})
        )
    return shown


@routes.get("/containers/{container}/json", query={"size": "with sizes"})
def inspect(call: Call[None], container: str) -> dict[str, Any]:
    """Inspect a container."""
    engine = call.engine
    found = engine.registry.find(container)
    sandboxes = engine.parts.sandboxes
    is_alive = found.state.status.is_alive
    endpoints = sandboxes.endpoints(found.id) if is_alive else sandboxes.left([found]).get(found.id, [])
    shown = present.inspected(found, endpoints, engine.parts.places)
    shown["HostConfig"]["Links"] = engine.links.shown(found)
    if call.version < _NAMES_BESIDE_ALIASES_SINCE:
        present.with_old_aliases(shown["NetworkSettings"], found)
    shown["ExecIDs"] = [each.id for each in engine.entering.execs.of(found.id)] or None
    health = engine.health.shown(found.id)
    if health is not None:
        shown["State"]["Health"] = health
    return shown | (_sizes(call, found) if call.flag("size") else {})


def _sizes(call: Call[None], container: Container) -> dict[str, int]:
    parts = call.engine.parts
    written = parts.rootfs(container).size()
    image = next((each.size for each in parts.images.all() if each.id == container.image), 0)
    return {"SizeRw": written, "SizeRootFs": written + image}


@routes.post("/containers/{container}/start", query={"detachKeys": "makes no difference here"})
def start(call: Call[None], container: str) -> Response:
    """Start a container; 304 where it runs."""
    length = request.content_length
    if "Transfer-Encoding" in request.headers or (length or 0) > _LONGEST_EMPTY_BODY:
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    return _done(call.engine.run(container))


@routes.post(
    "/containers/{container}/stop", query={"t": "seconds before it is killed", "signal": "what asks it"}
)
def stop(call: Call[None], container: str) -> Response:
    """Stop a container; 304 where it does not run."""
    return _done(call.engine.stopper.stop(container, call.number("t"), call.query.get("signal", "")))


def _done(changed: bool) -> Response:
    return Response(status=204 if changed else 304)


@routes.post(
    "/containers/{container}/restart",
    status=204,
    query={"t": "seconds before it is killed", "signal": "what asks it"},
)
def restart(call: Call[None], container: str) -> None:
    """Stop a container and start it."""
    call.engine.stopper.restart(container, call.number("t"), call.query.get("signal", ""))


@routes.post("/containers/{container}/kill", status=204, query={"signal": "SIGKILL where nothing is said"})
def kill(call: Call[None], container: str) -> None:
    """Send a container's first process a signal."""
    call.engine.stopper.kill(container, call.query.get("signal", ""))


@routes.post("/containers/{container}/pause", status=204)
def pause(call: Call[None], container: str) -> None:
    """Freeze a container's processes."""
    call.engine.pause(container)


@routes.post("/containers/{container}/unpause", status=204)
def unpause(call: Call[None], container: str) -> None:
    """Let a container's processes go on."""
    call.engine.unpause(container)


@routes.post("/containers/{container}/rename", status=204, query={"name": "the new name"})
def rename(call: Call[None], container: str) -> None:
    """Call a container otherwise."""
    call.engine.rename(container, call.query.get("name", ""))


@routes.post("/containers/{container}/update", body=ContainerUpdate)
def update(call: Call[ContainerUpdate], container: str) -> dict[str, Any]:
    """Change a container's limits and restart policy."""
    return {"Warnings": call.engine.update(container, call.body)}


@routes.delete(
    "/containers/{container}",
    status=204,
    query={
        "force": "kill it first",
        "v": "remove its anonymous volumes that no other container has, too",
        "link": "its link of this name, `PARENT/ALIAS`, not the container",
    },
)
def remove(call: Call[None], container: str) -> None:
    """Remove a container, or a link."""
    if call.flag("link"):
        call.engine.links.remove(container)
        return
    call.engine.remove(container, force=call.flag("force"), volumes=call.flag("v"))


@routes.post("/containers/prune", query=_ONLY_BY_FILTER)
def prune(call: Call[None]) -> dict[str, Any]:
    """Remove all containers that do not run."""
    wanted = filters.decode(call.query.get("filters", ""), PRUNE_FILTERS)
    until = wanted.get("until", ())
    if len(until) > 1:
        raise InvalidParameter("more than one until filter specified")
    limit = times.parse(until[0], time.time_ns()) if until else None
    removed, space = call.engine.prune(wanted.get("label", ()), wanted.get("label!", ()), limit)
    return {"ContainersDeleted": removed or None, "SpaceReclaimed": space}


@routes.get("/containers/{container}/top", query={"ps_args": "arguments for ps"})
def top(call: Call[None], container: str) -> Top:
    """List a container's processes."""
    return call.engine.top(container, call.query.get("ps_args", ""))


@routes.get("/containers/{container}/changes")
def changes(call: Call[None], container: str) -> Response:
    """List what a container has changed in its file system."""
    found = call.engine.registry.find(container)
    shown = [
        {"Path": each.path, "Kind": each.kind.number} for each in call.engine.parts.rootfs(found).changes()
    ]
    return Response(codec.encode(shown or None) + b"\n", content_type="application/json")


@routes.post("/containers/{container}/resize", query={"h": "rows", "w": "columns"})
def resize(call: Call[None], container: str) -> None:
    """Tell a container's terminal its size."""
    call.engine.resize(container, call.needed_number("h"), call.needed_number("w"))
