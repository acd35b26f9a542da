"""Commands in containers that run."""

from __future__ import annotations

from typing import Any

from flask import Response

from cnm.api.routes import Routes
from cnm.http.server import UPGRADE
from cnm.http.upgrade import Connection
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import content_type
from cnm.launcher.attach import Ended
from cnm.wire.containers import ExecCreate, ExecStart

routes = Routes()


@routes.post("/containers/{container}/exec", body=ExecCreate, status=201)
def create(call: Call[ExecCreate], container: str) -> dict[str, Any]:
    """Prepare a command in a container."""
    found = call.engine.registry.find(container)
    return {"Id": call.engine.entering.create(found, call.body).id}


@routes.post("/exec/{exec_id}/start", body=ExecStart)
def start(call: Call[ExecStart], exec_id: str) -> Response:
    """Run a prepared command, attached or not."""
    entering = call.engine.entering
    found = entering.execs.find(exec_id)
    size = _size(call.body.console_size)
    if call.body.detach:
        entering.execs.start(exec_id, detach=True, size=size)
        entering.started(found)
        return Response(status=200)
    entering.check_startable(found)

    def take(connection: Connection) -> None:
        ended = entering.execs.attach(
            exec_id, connection.socket, connection.early, size=size, started=entering.started
        )
        if ended is Ended.DETACHED and call.engine.registry.is_there(found.container):
            call.engine.parts.tell("exec_detach", call.engine.registry.get(found.container), execID=found.id)

    call.environ[UPGRADE] = take
    return Response(content_type=content_type(call, bool(found.wanted.tty)))


def _size(given: list[int] | None) -> tuple[int, int] | None:
    """Rows and columns."""
    return (given[0], given[1]) if given and len(given) == 2 and all(given) else None


@routes.post("/exec/{exec_id}/resize", query={"h": "rows", "w": "columns"})
def resize(call: Call[None], exec_id: str) -> None:
    """Tell a command's terminal its size."""
    call.engine.entering.execs.resize(exec_id, call.needed_number("h"), call.needed_number("w"))


@routes.get("/exec/{exec_id}/json")
def inspect(call: Call[None], exec_id: str) -> dict[str, Any]:
    """Inspect a command."""
    return call.engine.entering.execs.inspect(exec_id)
