"""The Flask app of the launcher's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request

from cnm.api.app import VERSION, ApiApp, answer, body, rule
from cnm.api.routes import Route
from cnm.errors import InvalidParameter
from cnm.launcher.api import (
    archives,
    build,
    containers,
    execs,
    images,
    moving,
    networks,
    registry,
    streams,
    system,
    volumes,
)
from cnm.launcher.api.calls import Call
from cnm.launcher.engine import Engine


def create_app(engine: Engine) -> Flask:
    """The Engine API of `engine` as a WSGI application."""
    app = ApiApp("cnm.launcher")
    for route in declared_routes():
        app.add_url_rule(rule(route.path), route.name, _view(route, engine), methods=[route.method])
    return app


def declared_routes() -> list[Route]:
    """All routes, in the order of docs/api.md."""
    parts = (system, containers, streams, execs, archives, images, build, registry, networks, volumes, moving)
    return [route for part in parts for route in part.routes.declared]


def _view(route: Route, engine: Engine) -> Callable[..., Response]:
    def view(**references: str) -> Response:
        call = Call(engine, request.environ[VERSION], request.args, _content(route), request.environ)
        return answer(route, route.handler(call, **references))

    return view


def _content(route: Route) -> Any:
    """The body as the record that the route takes. Raises InvalidParameter where there must be one."""
    if route.body is None:
        return None
    is_chunked = "Transfer-Encoding" in request.headers
    if isinstance(route.body, type) and not request.content_length and not is_chunked:
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    return body(route.body)
