"""The Flask app of the control API: bodies in, records out, and one place where errors become answers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from cnm.api import cluster, control, engine_absent, engine_networks, engine_system, overlay, versions
from cnm.api.backend import Backend, Cluster
from cnm.api.metrics import CONTENT_TYPE, Metrics
from cnm.api.routes import Call, Route, Routes
from cnm.errors import CnmError, InvalidParameter
from cnm.wire import codec

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("cnm.api")

MAX_BODY = 1024 * 1024
"""Bytes of a request's body."""

_VERSION = "cnm.api_version"
_STARTED = "cnm.started"
_JSON = "application/json"

_own = Routes()


def create_app(backend: Backend, membership: Cluster) -> Flask:
    """The control API of `backend`, and of this host's part in a cluster, as a WSGI application."""
    app = _ControlApp(Metrics(backend))
    for route in declared_routes():
        app.add_url_rule(
            _rule(route.path), route.name, _view(route, backend, membership), methods=[route.method]
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
    parts += (cluster.routes, overlay.routes, _own)
    return [route for part in parts for route in part.declared]


@_own.get("/metrics", answer=str, media_type="text/plain")
def show_metrics(_call: Call[None]) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(cast(_ControlApp, current_app).metrics.text(), content_type=CONTENT_TYPE)


class _ControlApp(Flask):
    """Flask less what an API on a local socket has no use for: redirects, OPTIONS, HTML."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__("cnm.api", static_folder=None)
        self.metrics = metrics
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        self.url_map.merge_slashes = False
        self.url_map.strict_slashes = True
        self.after_request(self._finish)
        self.register_error_handler(CnmError, _known_failure)
        self.register_error_handler(HTTPException, _http_failure)
        self.register_error_handler(Exception, _unexpected)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[_STARTED] = time.perf_counter()
        try:
            environ[_VERSION], environ["PATH_INFO"] = versions.split(environ.get("PATH_INFO", "/"))
        except InvalidParameter as error:
            return failure(error)(environ, start_response)
        return super().wsgi_app(environ, start_response)

    def _finish(self, response: Response) -> Response:
        response.headers["Api-Version"] = versions.text(versions.NEWEST)
        response.headers["Ostype"] = "linux"
        route = request.url_rule.endpoint if request.url_rule else "unknown"
        self.metrics.count(route, response.status_code, time.perf_counter() - request.environ[_STARTED])
        return response


def failure(error: CnmError) -> Response:
    """An error as its status and one line of text."""
    return _message(str(error), error.status)


def _known_failure(error: CnmError) -> Response:
    if error.status == 500:
        log.error("%s %s: %s", request.method, request.path, error)
    return failure(error)


def _message(text: str, status: int) -> Response:
    return Response(codec.encode({"message": text}), status, content_type=_JSON)


def _http_failure(error: HTTPException) -> Response:
    """What Flask itself refuses; for an unknown path or method Docker's words."""
    status = error.code or 500
    if isinstance(error, RequestEntityTooLarge):
        return _message(f"the request's body is larger than {MAX_BODY} bytes", status)
    if status not in (404, 405):
        return _message(f"the request cannot be read: {error.name.lower()}", status)
    response = _message("page not found", status)
    for name, value in error.get_headers(request.environ):
        if name == "Allow":
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return _message(f"internal error: {reason}", 500)


def _rule(path: str) -> str:
    """Flask's rule of a path template. References may hold slashes (an endpoint's NETWORK/NAME)."""
    return re.sub(r"\{(\w+)\}", r"<path:\1>", path)


def _view(route: Route, backend: Backend, membership: Cluster) -> Callable[..., Response]:
    def view(**references: str) -> Response:
        body = _body(route.body) if route.body else None
        call = Call(backend, membership, request.environ[_VERSION], request.args, body)
        return _answer(route, route.handler(call, **references))

    return view


def _body(record: type[Any]) -> Any:
    """The body as its record; a body must say that it is JSON, as Docker wants it."""
    body = request.get_data(cache=False)
    if request.content_length is None and len(body) >= MAX_BODY:
        raise RequestEntityTooLarge  # werkzeug cuts a chunked body there, silently
    if body and request.mimetype != _JSON:
        given = request.headers.get("Content-Type", "")
        raise InvalidParameter(f"unsupported Content-Type header ({given}): must be 'application/json'")
    return codec.decode(body, record)


def _answer(route: Route, answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if answer is None:
        return Response(b"", route.status, content_type=_JSON if route.status != 204 else None)
    return Response(codec.encode(answer) + b"\n", route.status, content_type=_JSON)
