"""A cnmd that answers what a test tells it to, on a real Unix socket, and remembers what it was asked."""

from __future__ import annotations

import json
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from cnm.wire import control, engine


class Request(NamedTuple):
    """What a client asked; the path as it was sent, undecoded."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


class Answer(NamedTuple):
    """A JSON answer; None is an empty body, several `lines` make a chunked stream, `raw` bytes go out as they are."""

    status: int = 200
    body: Any = None
    lines: tuple[Any, ...] = ()
    raw: bytes = b""
    held: bool = False


class FakeDaemon:
    """Answers by `METHOD /path`; what it was not told of is not found."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.requests: list[Request] = []
        self._news = threading.Condition()
        self._answers: dict[tuple[str, str], Answer] = {}

    def answers(self, method: str, path: str, body: Any = None, status: int = 200) -> None:
        if isinstance(body, list | msgspec.Struct):
            body = msgspec.to_builtins(body)
        self._answers[method, path] = Answer(status, body)

    def refuses(self, method: str, path: str, status: int, message: str) -> None:
        self._answers[method, path] = Answer(status, {"message": message})

    def streams(self, path: str, *lines: Any, method: str = "GET") -> None:
        self._answers[method, path] = Answer(lines=tuple(msgspec.to_builtins(line) for line in lines))

    def sends(self, method: str, path: str, raw: bytes) -> None:
        self._answers[method, path] = Answer(raw=raw)

    def holds(self, path: str, raw: bytes, method: str = "GET") -> None:
        """Send `raw` and then nothing more, without an end, until the client goes."""
        self._answers[method, path] = Answer(raw=raw, held=True)

    def wait_for(self, method: str, path: str, seconds: float = 20.0) -> None:
        """Until it has been asked this."""
        with self._news:
            assert self._news.wait_for(lambda: (method, path) in self.asked, seconds), self.asked

    def answer(self, request: Request) -> Answer:
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
        missing = Answer(404, {"message": f"{request.method} {request.path} is not in this test"})
        return self._answers.get((request.method, request.path), missing)

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.requests]


@contextmanager
def fake_daemon() -> Iterator[FakeDaemon]:
    """One that serves until the context ends; its path is short, since a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="cnm") as folder:
        daemon = FakeDaemon(str(Path(folder) / "s"))

        class Handler(_Handler):
            told = daemon

        with _Server(daemon.socket, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield daemon
            finally:
                server.shutdown()
                thread.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: FakeDaemon

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        request = Request(
            self.command, path, dict(parse_qsl(query)), json.loads(content) if content else None
        )
        answer = self.told.answer(request)
        if answer.raw:
            self.wfile.write(answer.raw)
            if answer.held:
                self.rfile.read(1)
            self.close_connection = True
        elif answer.lines:
            self._stream(answer.lines)
        else:
            self._send(answer)

    do_GET = do_POST = do_DELETE = do_HEAD = _serve

    def _send(self, answer: Answer) -> None:
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if content:  # a client that expects none is gone by now
            self.wfile.write(content)

    def _stream(self, lines: tuple[Any, ...]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        for start in range(0, len(content), 100):  # pieces that end in the middle of lines
            piece = content[start : start + 100]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


# Answers as cnmd makes them: built from its own records, so that a changed record changes them too.


def network(name: str, digit: str = "a", **changes: Any) -> dict[str, Any]:
    """Answer for one network whose id is 64 times `digit`."""
    settings: dict[str, Any] = {
        "created": "2025-01-02T03:04:05.678901234Z",
        "scope": "local",
        "driver": "bridge",
        "enable_ipv4": True,
        "enable_ipv6": False,
        "ipam": engine.Ipam(config=[engine.IpamConfig(subnet="172.18.0.0/16", gateway="172.18.0.1")]),
        "internal": False,
        "attachable": False,
        "containers": {},
        "options": {},
        "labels": {},
    }
    found: dict[str, Any] = msgspec.to_builtins(
        engine.Network(name=name, id=digit * 64, **{**settings, **changes})
    )
    return found


def container(name: str, address: str) -> engine.EndpointResource:
    return engine.EndpointResource(
        name=name,
        endpoint_id="e" * 64,
        mac_address="02:42:ac:12:00:02",
        ipv4_address=address,
        ipv6_address="",
    )


def port(inside: int, outside: int, **changes: Any) -> control.Port:
    settings: dict[str, Any] = {"protocol": "tcp", "host_ip": "", "count": 1, "relay": False, "note": ""}
    return control.Port(container_port=inside, host_port=outside, **{**settings, **changes})


def endpoint(
    name: str, network: str, sandbox: str = "", digit: str = "e", **changes: Any
) -> control.Endpoint:
    settings: dict[str, Any] = {
        "id": digit * 64,
        "network_id": "a" * 64,
        "sandbox_id": "5" * 64 if sandbox else "",
        "state": "joined" if sandbox else "created",
        "if_name": "eth0" if sandbox else "",
        "mac_address": "02:42:ac:12:00:02",
        "ipv4_address": "172.18.0.2/16",
        "ipv6_address": "",
        "gateway": "172.18.0.1",
        "ipv6_gateway": "",
        "aliases": [],
        "driver_opts": {},
        "gw_priority": 0,
        "ports": [],
    }
    return control.Endpoint(name=name, network=network, sandbox=sandbox, **{**settings, **changes})


def sandbox(name: str, *endpoints: control.Endpoint, digit: str = "5", **changes: Any) -> control.Sandbox:
    settings: dict[str, Any] = {
        "netns_path": f"/run/cnm/netns/{digit * 12}",
        "kind": "own",
        "created": "2025-01-02T03:04:05Z",
        "state": "active",
        "labels": {},
        "hostname": "" if changes.get("kind") == "host" else digit * 12,
        "dns": [],
        "dns_search": [],
        "dns_options": [],
        "extra_hosts": [],
        "hosts_path": "",
        "hostname_path": "",
        "resolv_conf_path": "",
        "gateway": endpoints[0].id if endpoints else "",
    }
    return control.Sandbox(name=name, id=digit * 64, endpoints=list(endpoints), **{**settings, **changes})
