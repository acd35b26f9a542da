"""The server over TLS: only who shows a certificate of the authority is let in, and nobody waits for anybody."""

from __future__ import annotations

import http.client
import io
import logging
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cnm.errors import InvalidParameter
from cnm.http import server, tls
from cnm.http.listener import TlsPlace
from cnm.http.server import Server
from tests.support.certificates import Authority, Certificate
from tests.unit.api_served import PATIENCE, answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

_THREADS = 2
_POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


def _echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class _Served:
    """A server whose authority is `ca`; `ours` is a client's certificate that it knows."""

    def __init__(self, place: Path) -> None:
        self.ca = Authority(place)
        self.ours, cert = self.ca.certify("client"), self.ca.certify("server")
        self.context = tls.server_context(self.ca.cert, cert.cert, cert.key)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._server = Server(_echo, TlsPlace("127.0.0.1", self.port, self.context), threads=_THREADS)
        self._server.bind()
        self._thread = threading.Thread(target=self._server.serve)
        self._thread.start()

    def stop(self) -> None:
        self._server.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def dial(self) -> socket.socket:
        """A connection without a word of TLS."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def greet(self, shown: Certificate | None) -> ssl.SSLSocket:
        """A connection whose handshake the client takes for done."""
        context = ssl.create_default_context(cafile=self.ca.cert)
        if shown:
            context.load_cert_chain(shown.cert, shown.key)
        return context.wrap_socket(self.dial(), server_hostname="127.0.0.1")

    def ask(self, shown: Certificate | None) -> tuple[int, bytes]:
        with self.greet(shown) as client:
            client.sendall(_POST)
            return answer(client)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    running = _Served(tmp_path_factory.mktemp("tls"))
    yield running
    running.stop()


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while not (said := [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]):
        assert time.monotonic() < deadline, "nothing was logged"
        time.sleep(0.01)
    return said


def test_a_client_with_a_certificate_of_the_authority_is_answered(served: _Served) -> None:
    assert served.ask(served.ours) == (200, b"hello")


def test_many_requests_go_over_one_connection(served: _Served) -> None:
    with served.greet(served.ours) as client:
        for _ in range(20):
            client.sendall(_POST)
            assert answer(client) == (200, b"hello")


def test_a_request_that_arrives_behind_another_in_one_record_is_answered(served: _Served) -> None:
    """What was decrypted and not read is seen by no poll of the socket."""
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\nPadding: "
    fill = io.DEFAULT_BUFFER_SIZE - 8000 - len(head) - len(b"\r\n\r\n")
    first = head + b"x" * fill + b"\r\n\r\n" + b"x" * 8000
    with served.greet(served.ours) as client:
        client.sendall(first + _POST)

        content = b""
        while not content.endswith(b"hello"):
            content += client.recv(65536)


def test_a_client_without_a_certificate_is_turned_away_with_one_line(
    served: _Served, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        served.ask(None)

    assert _warnings(caplog) == [
        f"client 127.0.0.1 was turned away at https://127.0.0.1:{served.port}: "
        "peer did not return a certificate"
    ]


def test_a_client_with_anothers_certificate_is_turned_away_with_one_line(
    served: _Served, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        served.ask(Authority(tmp_path).certify("client"))

    (line,) = _warnings(caplog)
    assert line.endswith(": unable to get local issuer certificate") or "signature" in line


def test_a_client_whose_certificate_is_over_is_turned_away_with_one_line(
    served: _Served, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        served.ask(served.ca.certify("late", days=-1))

    (line,) = _warnings(caplog)
    assert line.endswith(": certificate has expired")


def test_who_speaks_plain_http_is_told_so(served: _Served, caplog: pytest.LogCaptureFixture) -> None:
    with served.dial() as client:
        client.sendall(_POST)

        assert answer(client) == (400, b"HTTPS is spoken on this port: ask it by https://\n")

    (line,) = _warnings(caplog)
    assert line.endswith(": http request")


def test_who_leaves_without_a_word_is_worth_no_warning(
    served: _Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        served.dial().close()

    assert served.ask(served.ours)[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_slow_handshakes_hold_nobody_up(served: _Served) -> None:
    slow = [served.dial() for _ in range(10 * _THREADS)]
    for client in slow:
        client.sendall(_hello(served)[:20])

    started = time.monotonic()
    assert served.ask(served.ours) == (200, b"hello")
    assert time.monotonic() - started < server._IDLE_SECONDS / 2

    for client in slow:
        client.close()


def _hello(served: _Served) -> bytes:
    """The first message of a client's handshake."""
    read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=served.ca.cert).wrap_bio(
        read, written, server_hostname="127.0.0.1"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return written.read()


def test_clients_that_say_nothing_after_the_handshake_hold_nobody_up(served: _Served) -> None:
    idle = [served.greet(served.ours) for _ in range(10 * _THREADS)]

    started = time.monotonic()
    assert served.ask(served.ours) == (200, b"hello")
    assert time.monotonic() - started < server._IDLE_SECONDS / 2
    for client in idle:
        client.sendall(_POST)
        assert answer(client) == (200, b"hello")
        client.close()


def test_a_handshake_that_never_ends_is_ended(
    served: _Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_IDLE_SECONDS", 0.2)
    with served.dial() as client:
        for byte in _hello(served)[:40]:
            client.sendall(bytes([byte]))
            time.sleep(0.02)
            if any("takes too long" in record.getMessage() for record in caplog.records):
                break

        assert client.recv(100) == b""
    (line,) = _warnings(caplog)
    assert line.endswith("the handshake takes too long")


@pytest.mark.parametrize("missing", ["ca", "cert", "key"])
def test_a_file_that_is_not_there_is_named(served: _Served, missing: str) -> None:
    files = {"ca": served.ca.cert, "cert": served.ours.cert, "key": served.ours.key} | {missing: "/nowhere"}

    with pytest.raises(InvalidParameter, match=f"^{missing} /nowhere: no such file or directory$"):
        tls.server_context(**files)


def test_a_key_of_another_certificate_is_refused(served: _Served) -> None:
    with pytest.raises(InvalidParameter, match=r"no certificate and its key .*: key values mismatch"):
        tls.server_context(served.ca.cert, served.ours.cert, served.ca.own.key)


def test_a_port_that_is_taken_is_named(served: _Served) -> None:
    with pytest.raises(
        InvalidParameter, match=f"cannot listen on https://127.0.0.1:{served.port}: address already"
    ):
        TlsPlace("127.0.0.1", served.port, served.context).listen()
