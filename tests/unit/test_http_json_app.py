"""A few requests between hosts as a WSGI application: what goes out, and what a stranger is told."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cnm.errors import Conflict, NotBuilt
from cnm.http.json_app import JsonApp, body, shown_certificate
from cnm.http.server import PEER_CERTIFICATE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("cnm.test")


def _asked(answer: Callable[[WSGIEnvironment], Any], **environ: Any) -> tuple[str, Any]:
    """The status line, and what the body says."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        started.append((status, headers))

    app = JsonApp(answer, log, whose_log="the log over there")
    found = {"PATH_INFO": "/cnm/v1/offer", "REMOTE_ADDR": "192.0.2.7", **environ}
    content = b"".join(app(found, start_response))  # type: ignore[arg-type]
    [(status, headers)] = started
    assert headers == [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    return status, json.loads(content)


def test_what_is_returned_is_sent() -> None:
    assert _asked(lambda environ: {"yours": environ["PATH_INFO"]}) == ("200 OK", {"yours": "/cnm/v1/offer"})


@pytest.mark.parametrize(
    ("error", "status"),
    [(Conflict("it is held"), "409 Conflict"), (NotBuilt("not here"), "501 Not Implemented")],
)
def test_an_error_is_its_status_and_its_text(
    error: Exception, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(_environ: WSGIEnvironment) -> None:
        raise error

    assert _asked(answer) == (status, {"message": str(error)})
    assert caplog.messages == [f"offer of 192.0.2.7 is refused: {error}"]


def test_what_nobody_expected_is_told_in_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    def answer(_environ: WSGIEnvironment) -> None:
        raise RuntimeError("of a secret")

    assert _asked(answer) == (
        "500 Internal Server Error",
        {"message": "internal error: see the log over there"},
    )
    assert caplog.messages == ["offer of 192.0.2.7 failed"]
    assert "of a secret" in caplog.text


def test_a_strangers_path_is_not_logged_at_length(caplog: pytest.LogCaptureFixture) -> None:
    def answer(_environ: WSGIEnvironment) -> None:
        raise Conflict("no")

    _asked(answer, PATH_INFO=f"/{'x' * 5000}")

    assert caplog.messages == [f"{'x' * 40} of 192.0.2.7 is refused: no"]


@pytest.mark.parametrize("told", [{}, {"CONTENT_LENGTH": "6"}])
def test_a_long_body_is_refused_whether_its_length_is_told_or_not(told: dict[str, str]) -> None:
    sent = io.BytesIO(b"x" * 6)

    status, said = _asked(lambda environ: body(environ, 5).decode(), **told, **{"wsgi.input": sent})

    assert (status[:3], said) == ("413", {"message": "the request's body is larger than 5 bytes"})
    assert sent.tell() == (0 if told else 6)
    assert _asked(lambda environ: body(environ, 6).decode(), **{"wsgi.input": io.BytesIO(b"x" * 6)}) == (
        "200 OK",
        "xxxxxx",
    )


def test_who_shows_no_certificate_is_refused() -> None:
    def answer(environ: WSGIEnvironment) -> str:
        return shown_certificate(environ).decode()

    assert _asked(answer) == (
        "403 Forbidden",
        {"message": "this is asked with the node's certificate, and none was shown"},
    )
    assert _asked(answer, **{PEER_CERTIFICATE: b"shown"}) == ("200 OK", "shown")
