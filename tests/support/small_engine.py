"""As much of the Engine API as attaching to one container and running execs in it takes, on the real server."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cnm.errors import CnmError
from cnm.http.listener import UnixPlace
from cnm.http.server import LONG_STREAM, UPGRADE, Server
from cnm.http.upgrade import Connection
from cnm.launcher import monitor
from cnm.launcher.attach import Wish
from cnm.launcher.attachments import Attachments
from cnm.launcher.execs import Execs, process
from cnm.launcher.streams import ContainerStreams
from cnm.wire import codec
from cnm.wire.containers import ExecCreate, ExecStart
from tests.support.small_containers import PATIENCE, Bundle, Containers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Answer = tuple[int, Any]


class SmallEngine:
    """One container, which a client calls "c"; `tty` and `stdin` are its Config's."""

    def __init__(self, made: Containers, bundle: Bundle, pid: int, *, tty: bool, stdin: bool) -> None:
        self._made, self._bundle, self._pid, self._tty, self._stdin = made, bundle, pid, tty, stdin
        self.execs = Execs(made.exits, os.path.join(bundle.path, "execs"))
        self.attachments = Attachments()
        self._routes: list[tuple[str, Callable[..., Answer]]] = [
            (r"(?:GET|HEAD) /_ping", lambda _environ: (200, "OK")),
            (r"GET /containers/(c)/json", self._show),
            (r"POST /containers/(c)/wait", self._wait),
            (r"POST /containers/(c)/resize", self._resize),
            (r"POST /containers/(c)/attach", self._attach),
            (r"POST /containers/(c)/exec", self._exec_create),
            (r"POST /exec/(\w+)/start", self._exec_start),
            (r"POST /exec/(\w+)/resize", self._exec_resize),
            (r"GET /exec/(\w+)/json", lambda _environ, name: (200, self.execs.inspect(name))),
        ]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, content = self._answer(environ)
        except CnmError as error:
            status, content = error.status, {"message": str(error)}
        headers = [("Content-Type", "application/json"), ("Api-Version", "1.41"), ("Ostype", "linux")]
        if environ.get(LONG_STREAM):
            start_response("200 OK", headers)
            return content  # type: ignore[no-any-return]
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        start_response(f"{status} X", [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path = re.sub(r"^/v1\.\d+", "", environ["PATH_INFO"])
        for pattern, handler in self._routes:
            if found := re.fullmatch(pattern, f"{environ['REQUEST_METHOD']} {path}"):
                return handler(environ, *found.groups())
        return 404, {"message": "page not found"}

    def _show(self, _environ: WSGIEnvironment, _name: str) -> Answer:
        config = {"Tty": self._tty, "OpenStdin": self._stdin, "AttachStdin": self._stdin}
        return 200, {"Id": self._bundle.id, "State": {"Running": True}, "Config": config, "HostConfig": {}}

    def _wait(self, environ: WSGIEnvironment, _name: str) -> Answer:
        """Its head goes out at once: the docker CLI waits for it before it attaches."""
        environ[LONG_STREAM] = True
        return 200, (
            json.dumps({"StatusCode": self._made.await_exit(self._bundle)}).encode() for _ in range(1)
        )

    def _resize(self, environ: WSGIEnvironment, _name: str) -> Answer:
        monitor.resize(self._bundle.path, *_size(environ))
        return 200, ""

    def _attach(self, environ: WSGIEnvironment, _name: str) -> Answer:
        query = parse_qs(environ["QUERY_STRING"])
        wish = Wish(tty=self._tty, stdin=self._stdin and "stdin" in query)
        streams = ContainerStreams(self._bundle.path, self._pid)
        environ[UPGRADE] = lambda connection: self.attachments.serve(
            self._bundle.id, connection.socket, connection.early, streams, wish
        )
        return 200, ""

    def _exec_create(self, environ: WSGIEnvironment, _name: str) -> Answer:
        wanted = codec.decode(_body(environ), ExecCreate)
        made = process(self._made.process(self._bundle), wanted)
        return 201, {"Id": self.execs.create(self._bundle.id, wanted, made, self._made.runtime).id}

    def _exec_start(self, environ: WSGIEnvironment, name: str) -> Answer:
        wanted = codec.decode(_body(environ), ExecStart)
        self.execs.find(name)
        if wanted.detach:
            self.execs.start(name, detach=True)
        else:
            environ[UPGRADE] = lambda connection: self._serve(name, connection)
        return 200, ""

    def _serve(self, name: str, connection: Connection) -> None:
        self.execs.attach(name, connection.socket, connection.early)

    def _exec_resize(self, environ: WSGIEnvironment, name: str) -> Answer:
        self.execs.resize(name, *_size(environ))
        return 200, ""


@contextmanager
def served(engine: SmallEngine, folder: Path) -> Iterator[str]:
    """The path of its socket."""
    path = str(folder / "docker.sock")
    server = Server(engine, UnixPlace(path), threads=8)
    server.bind()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield path
    finally:
        server.stop()
        thread.join(PATIENCE)


def _body(environ: WSGIEnvironment) -> bytes:
    content: bytes = environ["wsgi.input"].read()
    return content


def _size(environ: WSGIEnvironment) -> tuple[int, int]:
    query = parse_qs(environ["QUERY_STRING"])
    return int(query["h"][0]), int(query["w"][0])
