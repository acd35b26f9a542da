"""A member's listener for those who join: HTTPS with the cluster's own certificate, off in no cluster.

Whoever asks for enrolment shows no certificate, but the secret of a join token; whoever renews or leaves shows the
certificate that it has. Little is taken from strangers: short bodies, and few requests a second.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from cnm.cluster import certificates, tokens
from cnm.cluster.addresses import parse
from cnm.cluster.home import EtcdKind, Home
from cnm.cluster.identity import node_of
from cnm.cluster.registry import Applicant, Registry
from cnm.errors import InvalidParameter, NotFound, Unavailable
from cnm.http.json_app import JsonApp, body, shown_certificate
from cnm.http.listener import TlsPlace
from cnm.http.server import Server
from cnm.wire import codec
from cnm.wire.cluster import Authority, Enrol, Enrolled, Renew, Renewed

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger("cnm.cluster")

MAX_BODY = 64 * 1024
"""Bytes of a request's body; a request for a certificate is under 1,000."""
MAX_ADDRESSES = 64
_THREADS = 8
_BURST, _PER_SECOND = 30.0, 2.0
"""Requests of one host at once, and in the long run."""
_ALL_BURST, _ALL_PER_SECOND = 100.0, 20.0
"""Of all together."""


class Where(NamedTuple):
    """What the newly enrolled is told of the cluster."""

    cluster_id: str
    endpoints: list[str]
    enrols_at: list[str]
    etcd: EtcdKind = EtcdKind.OWN


class Enrolment:
    """The requests; `app` is the WSGI application of them."""

    def __init__(self, registry: Registry, home: Home, where: Callable[[], Where]) -> None:
        self._registry = registry
        self._home = home
        self._where = where
        self._limit = RateLimit()
        self._answers: dict[tuple[str, str], Callable[[WSGIEnvironment], Any]] = {
            ("GET", "/cnm/v1/authority"): self._authority,
            ("POST", "/cnm/v1/enrol"): self._enrol,
            ("POST", "/cnm/v1/renew"): self._renew,
            ("POST", "/cnm/v1/confirm"): self._confirm,
            ("POST", "/cnm/v1/leave"): self._leave,
        }

    def app(self) -> WSGIApplication:
        return JsonApp(self._answer, log, whose_log="the member's log")

    def _answer(self, environ: WSGIEnvironment) -> Any:
        answer = self._answers.get((environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")))
        if answer is None:
            raise NotFound("page not found")
        if not self._limit.passes(environ.get("REMOTE_ADDR", "")):
            raise Unavailable("too many requests from this host: try again in a few seconds")
        return answer(environ)

    def _authority(self, _environ: WSGIEnvironment) -> Authority:
        return Authority(
            certificate=self._home.read(self._home.authority), adopted_etcd=self._where().etcd.adopted
        )

    def _enrol(self, environ: WSGIEnvironment) -> Enrolled:
        asked = codec.decode(body(environ, MAX_BODY), Enrol)
        if not 0 < len(asked.addresses) <= MAX_ADDRESSES:
            raise InvalidParameter(f"a node has between 1 and {MAX_ADDRESSES} addresses")
        addresses = [parse(each) for each in asked.addresses]
        secret = tokens.parse_secret(asked.secret)
        applicant = Applicant(asked.name, addresses, asked.csr, asked.member)
        certificate = self._registry.enrol(secret, applicant)
        log.info("node %s of %s is enrolled", asked.name, addresses[0])
        where, home = self._where(), self._home
        shared = not where.etcd.apart and home.etcd_credential.exists()
        return Enrolled(
            certificate=certificate,
            authority=home.read(home.authority),
            cluster_id=where.cluster_id,
            endpoints=where.endpoints,
            enrols_at=where.enrols_at,
            authority_key=home.read(home.authority_key) if asked.member else "",
            etcd=where.etcd.value,
            etcd_authority=home.read(home.etcd_authority) if home.etcd_authority.exists() else "",
            etcd_credential=home.read(home.etcd_credential) if shared else "",
            root_user=self._root_user(where.etcd) if asked.member else "",
        )

    def _root_user(self, kind: EtcdKind) -> str:
        """Of an etcd that was adopted; "" for the usual one."""
        if kind is not EtcdKind.APART:
            return ""
        _, certificate = certificates.split(self._home.read(self._home.root_user))
        return certificates.user(certificate)

    def _renew(self, environ: WSGIEnvironment) -> Renewed:
        user = certificates.user(_shown(environ))
        asked = codec.decode(body(environ, MAX_BODY), Renew)
        certificate = self._registry.renew(user, asked.csr)
        log.info("the certificate of %s is renewed", node_of(user))
        return Renewed(certificate=certificate)

    def _confirm(self, environ: WSGIEnvironment) -> dict[str, str]:
        self._registry.confirm(_shown(environ))
        return {}

    def _leave(self, environ: WSGIEnvironment) -> dict[str, str]:
        """For nodes that run no member: those that do are root themselves."""
        user = certificates.user(_shown(environ))
        self._registry.check_user(user)
        self._registry.remove(node_of(user))
        log.info("node %s has left", node_of(user))
        return {}


class Listener:
    """The server of an `Enrolment`; `start` returns when it listens."""

    def __init__(self, app: Enrolment, home: Home, address: str, port: int) -> None:
        self._home = home
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._tls.load_verify_locations(str(home.authority))
        self.reload()
        self._server = Server(app.app(), TlsPlace(address, port, self._tls), threads=_THREADS)
        self._thread: threading.Thread | None = None

    def reload(self) -> None:
        """For handshakes from now on: this node's certificate was renewed."""
        self._tls.load_cert_chain(str(self._home.node))

    def start(self) -> None:
        """Raises InvalidParameter where nobody can listen."""
        self._server.bind()
        self._thread = threading.Thread(target=self._server.serve, name="enrolment", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._server.stop()
            self._thread.join()


class RateLimit:
    """A bucket of requests for each host, which fills again, and one for all. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}
        """(requests left, when that was) by host; "" for all."""

    def passes(self, host: str) -> bool:
        with self._lock:
            return self._take_locked(host, _BURST, _PER_SECOND) and self._take_locked(
                "", _ALL_BURST, _ALL_PER_SECOND
            )

    def _take_locked(self, host: str, burst: float, per_second: float) -> bool:
        now = self._clock()
        if len(self._buckets) > 10_000:
            self._buckets.clear()
        left, since = self._buckets.get(host, (burst, now))
        left = min(burst, left + (now - since) * per_second)
        self._buckets[host] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def _shown(environ: WSGIEnvironment) -> str:
    """The certificate that the client showed, PEM. Raises Forbidden."""
    return ssl.DER_cert_to_PEM_cert(shown_certificate(environ))
