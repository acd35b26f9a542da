"""The plugin protocol over HTTP: POST /TYPE.METHOD, a JSON object in, a JSON object out, errors as `{"Err"}`.

A WSGI function of its own and no framework: there is nothing to route, and dockerd asks some ten times a container.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.wire import codec
from cnm.wire.plugin import CONTENT_TYPE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("cnm.plugin")

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a request's body: 65,535 published ports."""
_LONGEST_ERROR = 1000
"""Characters; dockerd shows the whole to its user."""

_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class Call(NamedTuple):
    """One method: the record of its body, and what answers it; None answers `{}`."""

    body: type[Any]
    answer: Callable[..., Any]


class PluginApp:
    """The WSGI application of one plugin; `calls` are its methods by path without the slash."""

    def __init__(
        self, name: str, calls: Mapping[str, Call], heard: Callable[[int], None] = lambda _process: None
    ) -> None:
        """`heard` is told which process asks, 0 where that is not known (over TCP); it returns at once."""
        self.name = name
        self.calls = calls
        self._heard = heard
        self._asking = threading.local()

    @property
    def peer(self) -> int:
        """The process that asks what the calling thread is answering, 0 where that is not known (over TCP)."""
        return getattr(self._asking, "process", 0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        path = environ.get("PATH_INFO", "/").lstrip("/")
        self._asking.process = int(environ.get("X_REMOTE_PID", 0))
        self._heard(self.peer)
        try:
            status, body = 200, self._answer(path, environ)
        except _Refused as refused:
            status, body = refused.status, _failure(str(refused))
        except CnmError as error:
            status, body = _status(error), _failure(str(error))
            log.info("%s %s is refused: %s", self.name, path, error)
        except Exception as error:
            log.exception("%s %s failed", self.name, path)
            status = 500
            body = _failure(f"internal error: {str(error) or type(error).__name__}")
        log.debug("%s %s: %d in %.2f ms", self.name, path, status, (time.perf_counter() - started) * 1000)
        headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))]
        start_response(f"{status} {_REASONS[status]}", headers)
        return [body]

    def _answer(self, path: str, environ: WSGIEnvironment) -> bytes:
        call = self.calls.get(path)
        if call is None:
            raise _Refused(404, f"plugin {self.name} has no method {path[:80]!r}")
        if environ["REQUEST_METHOD"] != "POST":
            raise _Refused(405, f"{path} is asked for by POST")
        answer = call.answer(codec.decode(_body(environ), call.body))
        return (codec.encode(answer) if answer is not None else b"{}") + b"\n"


class _Refused(Exception):
    """What no method is asked about."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _body(environ: WSGIEnvironment) -> bytes:
    """dockerd's own retries may come without a body: that is an object without keys."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdecimal() and int(length) > MAX_BODY:
        raise _Refused(413, f"the request's body is larger than {MAX_BODY} bytes")
    body: bytes = environ["wsgi.input"].read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise _Refused(413, f"the request's body is larger than {MAX_BODY} bytes")
    return body.strip()


def _status(error: CnmError) -> int:
    """dockerd takes 404 for a method that is not there, and hides it: never that."""
    if isinstance(error, InvalidParameter):
        return 400
    return 500 if isinstance(error, NotFound) or error.status not in _REASONS else error.status


def _failure(text: str) -> bytes:
    """dockerd reads `Err` wherever the status is not 200, of IPAM drivers too. One line, whatever it quotes."""
    line = " ".join(text.split())
    shown = line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…"
    return codec.encode({"Err": shown}) + b"\n"
