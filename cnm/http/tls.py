"""TLS for a server whose clients must show a certificate: its context, and handshakes that nobody waits in."""

from __future__ import annotations

import enum
import logging
import os
import socket
import ssl
from contextlib import suppress
from typing import Any

from cnm.errors import InvalidParameter
from cnm.http.reader import make_file

log = logging.getLogger("cnm.http")

_PLAIN = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nHTTPS is spoken on this port: ask it by https://\n"
)
_IGNORED = 65536
"""Bytes of a plain request that are dropped, so that its sender comes to read the refusal."""


class Handshake(enum.Enum):
    DONE = enum.auto()
    WAITING = enum.auto()
    """For the client's next word."""
    REFUSED = enum.auto()


def server_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Clients without a certificate of the authority `ca` are turned away. Paths of PEM files.

    Raises InvalidParameter naming the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    load_authority(context, "ca", ca)
    load_certificate(context, ("cert", cert), ("key", key))
    return context


def load_authority(context: ssl.SSLContext, what: str, path: str) -> None:
    _check_readable(what, path)
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"{what} {path} is no certificate in PEM: {reason(error)}") from None


def load_certificate(context: ssl.SSLContext, cert: tuple[str, str], key: tuple[str, str]) -> None:
    """Both by what they are called and where they are."""
    for what, path in (cert, key):
        _check_readable(what, path)
    try:
        context.load_cert_chain(cert[1], key[1], password=lambda: "")
    except (OSError, ValueError) as error:
        raise InvalidParameter(
            f"{cert[0]} {cert[1]} and {key[0]} {key[1]} are no certificate and its key in PEM, "
            f"without a password: {reason(error)}"
        ) from None


def _check_readable(what: str, path: str) -> None:
    if not path:
        raise InvalidParameter(f"{what} is not given")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InvalidParameter(f"{what} {path}: {os.strerror(error.errno or 0).lower()}") from None


def reason(error: Exception) -> str:
    """What went wrong in plain words: OpenSSL's own, without its file names and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error)


def step(connection: ssl.SSLSocket, place: object) -> Handshake:
    """Take the handshake as far as the client's words go; never waits. One log line for whom it turns away."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return Handshake.WAITING
    except OSError as error:
        refuse(connection, place, error)
        return Handshake.REFUSED
    finally:
        connection.settimeout(timeout)
    return Handshake.DONE


def refuse(connection: ssl.SSLSocket, place: object, error: OSError) -> None:
    """Who closes without a word is not worth a warning; who speaks plain HTTP is told so."""
    silent = isinstance(error, ssl.SSLEOFError | ConnectionError)
    level = logging.DEBUG if silent else logging.WARNING
    log.log(level, "client %s was turned away at %s: %s", _peer(connection), place, reason(error))
    if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST":
        with suppress(OSError):
            socket.socket.recv(connection, _IGNORED)
            socket.socket.send(connection, _PLAIN)


def _peer(connection: ssl.SSLSocket) -> str:
    try:
        return str(connection.getpeername()[0])
    except OSError:
        return "(gone)"


class Adapter:
    """Stands where cheroot expects its own, which shakes hands in the thread that accepts."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def bind(self, listener: socket.socket) -> socket.socket:
        return listener

    def wrap(self, connection: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), {}

    def makefile(self, connection: ssl.SSLSocket, mode: str, size: int) -> Any:
        return make_file(connection, mode, size)
