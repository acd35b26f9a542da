"""The Flask app of the control API: its routes, and what is measured of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from flask import Flask, Response, current_app, request

from cnm.api import cluster, control, engine_absent, engine_networks, engine_system, overlay, volumes
from cnm.api.app import VERSION, ApiApp, answer, body, rule
from cnm.api.backend import Backend, Cluster
from cnm.api.metrics import CONTENT_TYPE, Metrics
from cnm.api.routes import Call, Route, Routes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_STARTED = "cnm.started"

_own = Routes()


def create_app(backend: Backend, membership: Cluster) -> Flask:
    """The control API of `backend`, and of this host's part in a cluster, as a WSGI application."""
    app = _ControlApp(Metrics(backend))
    for route in declared_routes():
        app.add_url_rule(
            rule(route.path), route.name, _view(route, backend, membership), methods=[route.method]
        )
    return app


def declared_routes() -> list[Route]:
    """All routes, in the order of docs/api.md."""
    parts: tuple[Routes, ...] = (
        engine_system.routes,
        engine_networks.routes,
        engine_absent.routes,
        control.routes,
    )
    parts += (cluster.routes, overlay.routes, volumes.routes, _own)
    return [route for part in parts for route in part.declared]


@_own.get("/metrics", answer=str, media_type="text/plain")
def show_metrics(_call: Call[None]) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(cast(_ControlApp, current_app).metrics.text(), content_type=CONTENT_TYPE)


class _ControlApp(ApiApp):
    """With metrics of its own."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__("cnm.api")
        self.metrics = metrics

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[_STARTED] = time.perf_counter()
        return super().wsgi_app(environ, start_response)

    def finish(self, response: Response) -> Response:
        route = request.url_rule.endpoint if request.url_rule else "unknown"
        self.metrics.count(route, response.status_code, time.perf_counter() - request.environ[_STARTED])
        return super().finish(response)


def _view(route: Route, backend: Backend, membership: Cluster) -> Callable[..., Response]:
    def view(**references: str) -> Response:
        content = body(route.body) if route.body else None
        call = Call(backend, membership, request.environ[VERSION], request.args, content)
        return answer(route, route.handler(call, **references))

    return view
