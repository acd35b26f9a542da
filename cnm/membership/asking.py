"""What a host asks of a member's listener: who it is, by the digest in the token, and only then the rest.

The first connection trusts nobody and says nothing: it fetches the authority's certificate, whose digest the token has.
Every other one trusts that authority alone, and only a member, whose certificate has the name.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Sequence
from http.client import HTTPException, HTTPSConnection
from typing import Any, TypeVar

import msgspec

from cnm.cluster import certificates
from cnm.cluster.addresses import join_port
from cnm.cluster.certificates import SERVER_NAME
from cnm.cluster.home import Home
from cnm.cluster.tokens import JoinToken
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.wire import codec
from cnm.wire.cluster import Authority, Enrol, Enrolled, Renew, Renewed

_SECONDS = 15.0
"""For an answer: etcd may have to make several changes for it."""
_CONNECT_SECONDS = 5.0
_MAX_ANSWER = 1024 * 1024

R = TypeVar("R", bound=msgspec.Struct)

_ERRORS = {each.status: each for each in (InvalidParameter, Forbidden, NotFound, Conflict, Unavailable)}


def authority_of(host: str, port: int, token: JoinToken) -> Authority:
    """Of the cluster that the token is for. Raises Unavailable, Forbidden for another cluster."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    answer = _Asking(host, port, context).get("/cnm/v1/authority", Authority)
    try:
        digest = certificates.digest(answer.certificate)
    except InvalidParameter:
        raise Unavailable(
            f"{join_port(host, port)} is no member of a cluster: its answer is no certificate"
        ) from None
    if not token.is_for(digest):
        raise Forbidden(
            f"{host} is in another cluster than the join token: the digest of its certificate is not the token's"
        )
    return answer


def enrol(host: str, port: int, authority: str, asked: Enrol) -> Enrolled:
    """Asked once more where the answer is lost: the same key may ask again."""
    asking = _Asking(host, port, _trusting(authority))
    try:
        return asking.post("/cnm/v1/enrol", asked, Enrolled)
    except _Lost:
        return asking.post("/cnm/v1/enrol", asked, Enrolled)


class Members:
    """The listeners of all members, asked with this node's certificate until one answers."""

    def __init__(self, home: Home, places: Sequence[tuple[str, int]]) -> None:
        self._home = home
        self._places = places

    def renew(self, csr: str) -> str:
        return self._ask("/cnm/v1/renew", Renew(csr=csr), Renewed).certificate

    def confirm(self) -> None:
        self._ask("/cnm/v1/confirm", None, _Nothing)

    def leave(self) -> None:
        self._ask("/cnm/v1/leave", None, _Nothing)

    def _ask(self, path: str, body: msgspec.Struct | None, kind: type[R]) -> R:
        context = _trusting(self._home.read(self._home.authority))
        context.load_cert_chain(str(self._home.node))
        failure: CnmError = Unavailable("no member of the cluster is known")
        for host, port in self._places:
            try:
                return _Asking(host, port, context).post(path, body, kind)
            except Unavailable as error:
                failure = error
        raise failure


class _Nothing(msgspec.Struct):
    pass


class _Lost(Unavailable):
    """It was asked, and its answer did not come."""


class _Asking:
    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._host, self._port, self._context = host, port, context

    def __str__(self) -> str:
        return join_port(self._host, self._port)

    def get(self, path: str, kind: type[R]) -> R:
        return self._ask("GET", path, None, kind)

    def post(self, path: str, body: msgspec.Struct | None, kind: type[R]) -> R:
        return self._ask("POST", path, body, kind)

    def _ask(self, method: str, path: str, body: msgspec.Struct | None, kind: type[R]) -> R:
        connection = self._connect()
        try:
            content = b"" if body is None else codec.encode(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER)
        except ssl.SSLError as error:
            raise self._distrusted(error) from None
        except (OSError, HTTPException) as error:
            raise _Lost(f"{self} does not answer: {_reason(error)}: look at the log of cnmd there") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise self._refused(answer.status, text)
        try:
            return codec.decode(text, kind)
        except InvalidParameter as error:
            raise Unavailable(f"{self} is no member of a cluster: {error}") from None

    def _connect(self) -> HTTPSConnection:
        """The context checks SERVER_NAME, whatever the host is called."""
        try:
            plain = socket.create_connection((self._host, self._port), _CONNECT_SECONDS)
        except OSError as error:
            raise Unavailable(
                f"cannot reach {self}: {_reason(error)}: is it a member of the cluster, and is the port open there?"
            ) from None
        try:
            wrapped = self._context.wrap_socket(plain, server_hostname=SERVER_NAME)
        except OSError as error:
            plain.close()
            raise self._distrusted(error) from None
        wrapped.settimeout(_SECONDS)
        connection = HTTPSConnection(self._host, self._port)
        connection.sock = wrapped
        return connection

    def _distrusted(self, error: OSError) -> CnmError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Forbidden(
                f"{self} is no member of this cluster: {error.verify_message.rstrip('.').lower()}"
            )
        if isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or ""):
            return Forbidden(f"{self} does not accept our certificate: it is over, or of another cluster")
        if isinstance(error, ssl.SSLEOFError):
            return Unavailable(
                f"{self} hung up: it is no member of this cluster, or does not accept our certificate"
            )
        return Unavailable(f"{self} is no member of a cluster: {_reason(error)}")

    def _refused(self, status: int, text: bytes) -> CnmError:
        try:
            said = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            return Unavailable(f"{self} is no member of a cluster: it answers with status {status}")
        return _ERRORS.get(status, CnmError)(said)


def _trusting(authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    return context


def _reason(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
