"""The Flask app of the control API: bodies in, records out, and one place where errors become answers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from cnm.api import control, engine_absent, engine_networks, engine_system, versions
from cnm.api.backend import Backend
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


def create_app(backend: Backend) -> Flask:
    """The control API of `backend` as a WSGI application."""
    metrics = Metrics(backend)
    app = _ControlApp(metrics)
    own = Routes()

    @own.get("/metrics", answer=str, media_type="text/plain")
    def show_metrics(_call: Call[None]) -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), content_type=CONTENT_TYPE)

    for route in (*declared_routes(), *own.declared):
        app.add_url_rule(_rule(route.path), route.name, _view(route, backend), methods=[route.method])
    return app


def declared_routes() -> list[Route]:
    """All routes but /metrics, in the order of docs/api.md."""
    modules = (engine_system, engine_networks, engine_absent, control)
    return [route for module in modules for route in module.routes.declared]


class _ControlApp(Flask):
    """Flask less what an API on a local socket has no use for: redirects, OPTIONS, HTML."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__("cnm.api", static_folder=None)
        self._metrics = metrics
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        self.url_map.merge_slashes = False
        self.url_map.strict_slashes = True
        self.after_request(self._finish)
        self.register_error_handler(CnmError, failure)
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
        self._metrics.count(route, response.status_code, time.perf_counter() - request.environ[_STARTED])
        return response


def failure(error: CnmError) -> Response:
    """An error as its status and one line of text."""
    return _message(str(error), error.status)


def _message(text: str, status: int) -> Response:
    return Response(codec.encode({"message": text}), status, content_type=_JSON)


def _http_failure(error: HTTPException) -> Response:
    """What Flask itself refuses; for an unknown path or method Docker's words."""
    status = error.code or 500
    if isinstance(error, RequestEntityTooLarge):
        return _message(f"the request's body is larger than {MAX_BODY} bytes", status)
    if status not in (404, 405):
        return _message((error.description or error.name).lower(), status)
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


def _view(route: Route, backend: Backend) -> Callable[..., Response]:
    def view(**references: str) -> Response:
        body = _body(route.body) if route.body else None
        call = Call(backend, request.environ[_VERSION], request.args, body)
        return _answer(route, route.handler(call, **references))

    return view


def _body(record: type[Any]) -> Any:
    """The body as its record; a body must say that it is JSON, as Docker wants it."""
    body = request.get_data(cache=False)
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
