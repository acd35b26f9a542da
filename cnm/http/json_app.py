"""A few requests between hosts as a WSGI application: what answers returns a value or raises, and JSON goes out.

The APIs that people and clients use are Flask's (cnm.api.app); those that strangers reach have no more than this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from cnm.errors import CnmError, Forbidden, InvalidParameter
from cnm.http.server import PEER_CERTIFICATE
from cnm.wire import codec

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_SHOWN = 40
"""Characters of a stranger's path that a log gets."""


class JsonApp:
    """An error is its status and `{"message": …}`; what is no CnmError is told in the log only."""

    def __init__(
        self, answer: Callable[[WSGIEnvironment], Any], log: logging.Logger, *, whose_log: str
    ) -> None:
        """`answer` returns what is sent with status 200. `whose_log` is where a client is sent to look."""
        self._answer = answer
        self._log = log
        self._whose_log = whose_log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = environ.get("PATH_INFO", "").rpartition("/")[2][:_SHOWN]
        peer, log = environ.get("REMOTE_ADDR", ""), self._log
        try:
            status, said = 200, self._answer(environ)
        except CnmError as error:
            log.warning("%s of %s is refused: %s", asked, peer, error)
            status, said = error.status, {"message": str(error)}
        except Exception:
            log.exception("%s of %s failed", asked, peer)
            status, said = 500, {"message": f"internal error: see {self._whose_log}"}
        content = codec.encode(said)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [content]


def body(environ: WSGIEnvironment, most: int) -> bytes:
    """Of a request. Raises InvalidParameter for one of more than `most` bytes, of which no more is read."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdecimal() and int(length) > most:
        raise _too_long(most)
    content: bytes = environ["wsgi.input"].read(most + 1)
    if len(content) > most:
        raise _too_long(most)
    return content


class _TooLong(InvalidParameter):
    status = 413


def _too_long(most: int) -> CnmError:
    return _TooLong(f"the request's body is larger than {most} bytes")


def shown_certificate(environ: WSGIEnvironment) -> bytes:
    """What the client showed, DER; the handshake has looked whether it is of our authority. Raises Forbidden."""
    found: bytes | None = environ.get(PEER_CERTIFICATE)
    if not found:
        raise Forbidden("this is asked with the node's certificate, and none was shown")
    return found
