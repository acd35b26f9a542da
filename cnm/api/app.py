"""What every API of ours on Flask does alike: versions by path prefix, errors as one line of JSON, typed bodies."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import Rule

from cnm.api import versions
from cnm.api.routes import Route
from cnm.errors import CnmError, InvalidParameter
from cnm.http.server import HAS_LEFT
from cnm.wire import codec

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("cnm.api")

MAX_BODY = 1024 * 1024
"""Bytes of a request's body that is JSON."""

VERSION = "cnm.api_version"
"""Key of the WSGI environment with the version that the request speaks."""

_JSON = "application/json"


class _MatchedRule(Rule):
    """Matches requests and builds no URLs: to compile what url_for() runs is nine tenths of making an app."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _build_no_url


def _build_no_url(rule: Rule, **_values: object) -> tuple[str, str]:
    raise NotImplementedError(f"{rule.rule}: our APIs build no URLs")


class ApiApp(Flask):
    """Flask less what an API on a local socket has no use for: redirects, OPTIONS, HTML."""

    url_rule_class = _MatchedRule

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        self.url_map.merge_slashes = False
        self.url_map.strict_slashes = True
        self.after_request(self.finish)
        self.register_error_handler(CnmError, _known_failure)
        self.register_error_handler(HTTPException, _http_failure)
        self.register_error_handler(Exception, _unexpected)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ[VERSION], environ["PATH_INFO"] = versions.split(environ.get("PATH_INFO", "/"))
        except InvalidParameter as error:
            return failure(error)(environ, start_response)
        return super().wsgi_app(environ, start_response)

    def finish(self, response: Response) -> Response:
        """Behind every answer."""
        response.headers["Api-Version"] = versions.text(versions.NEWEST)
        response.headers["Ostype"] = "linux"
        return response


def failure(error: CnmError) -> Response:
    """An error as its status and one line of text."""
    return _message(str(error), error.status)


def _known_failure(error: CnmError) -> Response:
    if error.status == 500:
        log.log(_level(), "%s %s: %s", request.method, request.path, error)
    return failure(error)


def _level() -> int:
    """That a client has gone is no error of ours, whatever failed of it."""
    has_left = request.environ.get(HAS_LEFT)
    return logging.DEBUG if has_left is not None and has_left() else logging.ERROR


def _message(text: str, status: int) -> Response:
    """Names of files need not be text: what is none of it is replaced, as Go does it."""
    shown = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return Response(codec.encode({"message": shown}), status, content_type=_JSON)


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
    log.log(_level(), "%s %s failed", request.method, request.path, exc_info=error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return _message(f"internal error: {reason}", 500)


def rule(path: str) -> str:
    """Flask's rule of a path template. References may hold slashes (an endpoint's NETWORK/NAME)."""
    return re.sub(r"\{(\w+)\}", r"<path:\1>", path)


def body(record: type[Any]) -> Any:
    """The body as its record; a body must say that it is JSON, as Docker wants it."""
    content = request.get_data(cache=False)
    if request.content_length is None and len(content) >= MAX_BODY:
        raise RequestEntityTooLarge  # werkzeug cuts a chunked body there, silently
    if content and request.mimetype != _JSON:
        given = request.headers.get("Content-Type", "")
        raise InvalidParameter(f"unsupported Content-Type header ({given}): must be 'application/json'")
    return codec.decode(content, record)


def answer(route: Route, said: Any) -> Response:
    if isinstance(said, Response):
        return said
    if said is None:
        return Response(b"", route.status, content_type=_JSON if route.status != 204 else None)
    return Response(codec.encode(said) + b"\n", route.status, content_type=_JSON)
