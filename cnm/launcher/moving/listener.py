"""Where volumes of other hosts arrive: HTTPS on the address that this host advertises, for nodes of the cluster only.

It listens for as long as this host is in a cluster, with the certificates that cnmd keeps in ROOT/cluster.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cnm.errors import CnmError, NotFound
from cnm.http.json_app import JsonApp, body, shown_certificate
from cnm.http.listener import TlsPlace
from cnm.http.server import PATIENCE, Server
from cnm.launcher.moving.arriving import Arriving, Offer
from cnm.launcher.moving.peers import ClusterPeers, node_name
from cnm.wire import codec

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger("cnm.launcher")

PREFIX = "/cnm/v1/arrivals/"
MAX_OFFER = 1 << 20
"""Bytes: labels may be many."""
_THREADS = 8
_LOOK_SECONDS = 1.0


class ArrivalRequests:
    """The requests: POST PREFIX{move}/{step}, in the order of `Arriving`'s methods; `app` is the WSGI application."""

    def __init__(self, arriving: Arriving, peers: ClusterPeers) -> None:
        self._arriving = arriving
        self._peers = peers
        self._answers: dict[str, Callable[[str, bytes, WSGIEnvironment], Any]] = {
            "offer": self._offer,
            "content": self._content,
            "commit": self._commit,
            "settle": self._settle,
            "confirm": self._confirm,
            "origin": self._origin,
        }

    def app(self) -> WSGIApplication:
        return JsonApp(self._answer, log, whose_log="the log of cnm-launcher there")

    def _answer(self, environ: WSGIEnvironment) -> Any:
        path = environ.get("PATH_INFO", "")
        move, _, step = path.removeprefix(PREFIX).partition("/")
        answer = self._answers.get(step)
        if answer is None or not path.startswith(PREFIX) or environ["REQUEST_METHOD"] != "POST":
            raise NotFound("page not found")
        return answer(move, shown_certificate(environ), environ)

    def _offer(self, move: str, certificate: bytes, environ: WSGIEnvironment) -> dict[str, Any]:
        """Whoever is past this may go on, whatever becomes of cnmd meanwhile."""
        source = self._peers.check(certificate)
        self._arriving.offer(move, source, codec.decode(body(environ, MAX_OFFER), Offer))
        return {}

    def _content(self, move: str, certificate: bytes, environ: WSGIEnvironment) -> dict[str, Any]:
        """The disk there may give nothing for a while."""
        with environ[PATIENCE]():
            self._arriving.receive(move, node_name(certificate), environ["wsgi.input"])
        return {}

    def _commit(self, move: str, certificate: bytes, environ: WSGIEnvironment) -> dict[str, Any]:
        self._arriving.commit(move, node_name(certificate))
        return {}

    def _settle(self, move: str, certificate: bytes, environ: WSGIEnvironment) -> dict[str, Any]:
        return {"arrived": self._arriving.settle(move, node_name(certificate), _name(environ))}

    def _confirm(self, move: str, certificate: bytes, environ: WSGIEnvironment) -> dict[str, Any]:
        self._arriving.confirm(move, node_name(certificate), _name(environ))
        return {}

    def _origin(self, move: str, certificate: bytes, environ: WSGIEnvironment) -> dict[str, Any]:
        """Whether the volume has come from the node that asks."""
        return {"yours": self._arriving.came_from(_name(environ)) == node_name(certificate)}


def _name(environ: WSGIEnvironment) -> str:
    return codec.decode(body(environ, MAX_OFFER), Offer).name


class _Where(NamedTuple):
    """What a server was made for; another one is needed where it changes."""

    address: str
    certificates: tuple[float, ...]
    """When the files were changed last."""


class Listening:
    """A thread for as long as the process lives; in it `joined` is called when this host has come into a cluster, and
    `idle` each second."""

    def __init__(
        self,
        requests: ArrivalRequests,
        peers: ClusterPeers,
        *,
        joined: Callable[[], object],
        idle: Callable[[], object],
    ) -> None:
        self._app = requests.app()
        self._peers = peers
        self._joined, self._idle = joined, idle
        self._server: Server | None = None
        self._serving: threading.Thread | None = None
        self._where: _Where | None = None
        self._failed: _Where | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="volumes arrive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stop()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._look()
                self._idle()
            except Exception:
                log.exception("what arrives from other hosts cannot be looked after")
            self._closing.wait(_LOOK_SECONDS)

    def _look(self) -> None:
        where = self._wanted()
        if where == self._where:
            return
        self._stop()
        if where is not None:
            self._begin(where)

    def _wanted(self) -> _Where | None:
        home = self._peers.home
        with suppress(CnmError, FileNotFoundError):
            if (own := self._peers.own()) is not None:
                files = (home.node, home.authority)
                return _Where(own.advertise, tuple(os.stat(path).st_mtime for path in files))
        return None

    def _begin(self, where: _Where) -> None:
        try:
            server = Server(
                self._app, TlsPlace(where.address, self._peers.port, self._context()), threads=_THREADS
            )
            server.bind()
        except (CnmError, OSError) as error:
            if where != self._failed:
                log.warning("volumes of other hosts cannot arrive: %s", error)
            self._failed = where
            return
        self._server, self._where, self._failed = server, where, None
        self._serving = threading.Thread(target=server.serve, name="arrivals", daemon=True)
        self._serving.start()
        self._joined()

    def _stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.stop()
            self._serving.join()
        self._server = self._serving = self._where = None

    def _context(self) -> ssl.SSLContext:
        home = self._peers.home
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(home.authority))
        context.load_cert_chain(str(home.node))
        return context
