"""The Flask app of the launcher's API."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, request

from cnm.api.app import VERSION, ApiApp, answer, body, rule
from cnm.api.routes import Route
from cnm.launcher.api import archives, containers, execs, images, networks, streams, system
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
    parts = (system, containers, streams, execs, archives, images, networks)
    return [route for part in parts for route in part.routes.declared]


def _view(route: Route, engine: Engine) -> Callable[..., Response]:
    def view(**references: str) -> Response:
        content = body(route.body) if route.body else None
        call = Call(engine, request.environ[VERSION], request.args, content, request.environ)
        return answer(route, route.handler(call, **references))

    return view
