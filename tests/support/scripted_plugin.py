"""A Docker plugin whose answers a test writes: a real HTTP server on a Unix socket, well-behaved where nothing is said.

It keeps what it was told, so that a test can ask what is left in it. `make_link` and `drop_link` are what a network
driver does on the host when a sandbox joins, and when the endpoint goes.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Answer = dict[str, Any] | None


@dataclass(frozen=True)
class Reply:
    """One answer as it goes over the wire; `hang_up` closes the connection "before" it or "midway"."""

    body: bytes = b"{}\n"
    status: int = 200
    hang_up: str = ""
    delay: float = 0.0


def error(message: str, key: str = "Err", status: int = 200) -> Reply:
    return Reply(json.dumps({key: message}).encode(), status)


def answer(**keys: Any) -> Reply:
    return Reply(json.dumps(keys).encode())


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    raw: bytes
    headers: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw or b"{}"))


@dataclass
class Kept:
    """What the plugin believes that there is."""

    networks: set[str] = field(default_factory=set)
    endpoints: set[str] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    """Names, by endpoint; they go with it."""
    programmed: dict[str, list[int]] = field(default_factory=dict)
    """Container ports, by endpoint."""
    pools: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)


class ScriptedPlugin:
    """Listens as soon as it is made. `capabilities` are those of its two kinds."""

    def __init__(self, path: Path, implements: tuple[str, ...] = ("NetworkDriver", "IpamDriver")) -> None:
        self.path = path
        self.implements = implements
        self.calls: list[Call] = []
        self.kept = Kept()
        self.network_capabilities: dict[str, Any] = {"Scope": "local"}
        self.ipam_capabilities: dict[str, Any] = {}
        self.join_answer: dict[str, Any] = {}
        self.make_link: Callable[[str], object] = lambda name: None
        self.drop_link: Callable[[str], object] = lambda name: None
        self._script: dict[str, list[Reply]] = {}
        self._lock = threading.RLock()
        self._pools = 0
        self._server: _Server | None = None
        self.start()

    # What a test does

    def start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._server = _Server(str(self.path), self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Away, its socket too; what it was told it still knows when it starts again."""
        if self._server is not None:
            self._server.shutdown()
            self._server.close_connections()
            self._server.server_close()
            self._server = None
        self.path.unlink(missing_ok=True)

    def script(self, method: str, *replies: Reply) -> None:
        """The next answers to this method; afterwards it behaves again."""
        self._script.setdefault(method, []).extend(replies)

    def asked(self, *methods: str) -> list[str]:
        """The methods called so far, without "NetworkDriver."; of these only, if any are named."""
        short = [call.method.removeprefix("NetworkDriver.") for call in self.calls]
        return [name for name in short if not methods or name in methods]

    def last(self, method: str) -> dict[str, Any]:
        return next(call.body for call in reversed(self.calls) if call.method.endswith(method))

    # What it does by itself

    def reply(self, call: Call) -> Reply:
        with self._lock:
            self.calls.append(call)
            scripted = self._script.get(call.method)
            if scripted:
                return scripted.pop(0)
            kind, _, method = call.method.partition(".")
            behaviour = getattr(self, f"_{kind}_{method}", None)
            if behaviour is None:
                return Reply(b"404 page not found\n", 404)
            return Reply(json.dumps(behaviour(call.body)).encode() + b"\n")

    def _Plugin_Activate(self, body: dict[str, Any]) -> Answer:
        return {"Implements": list(self.implements)}

    def _NetworkDriver_GetCapabilities(self, body: dict[str, Any]) -> Answer:
        return self.network_capabilities

    def _NetworkDriver_GwAllocCheck(self, body: dict[str, Any]) -> Answer:
        return {"SkipIPv4": True, "SkipIPv6": True}

    def _NetworkDriver_CreateNetwork(self, body: dict[str, Any]) -> Answer:
        self.kept.networks.add(body["NetworkID"])
        return {}

    def _NetworkDriver_DeleteNetwork(self, body: dict[str, Any]) -> Answer:
        self.kept.networks.discard(body["NetworkID"])
        return {}

    def _NetworkDriver_CreateEndpoint(self, body: dict[str, Any]) -> Answer:
        self.kept.endpoints.add(body["EndpointID"])
        if body["Interface"]["MacAddress"]:
            return {"Interface": None}
        pairs = [body["EndpointID"][i : i + 2] for i in range(0, 8, 2)]
        return {"Interface": {"MacAddress": ":".join(["02", "77", *pairs])}}

    def _NetworkDriver_DeleteEndpoint(self, body: dict[str, Any]) -> Answer:
        self.kept.endpoints.discard(body["EndpointID"])
        link = self.kept.links.pop(body["EndpointID"], "")
        if link:
            self.drop_link(link)
        return {}

    def _NetworkDriver_Join(self, body: dict[str, Any]) -> Answer:
        link = f"sp{body['EndpointID'][:9]}"
        if body["EndpointID"] not in self.kept.links:
            self.make_link(link)
            self.kept.links[body["EndpointID"]] = link
        self.kept.joined.add(body["EndpointID"])
        return {"InterfaceName": {"SrcName": link, "DstPrefix": "eth"}, **self.join_answer}

    def _NetworkDriver_Leave(self, body: dict[str, Any]) -> Answer:
        self.kept.programmed.pop(body["EndpointID"], None)
        self.kept.joined.discard(body["EndpointID"])
        return {}

    def _NetworkDriver_ProgramExternalConnectivity(self, body: dict[str, Any]) -> Answer:
        ports = body["Options"]["com.docker.network.portmap"]
        self.kept.programmed[body["EndpointID"]] = [port["Port"] for port in ports]
        return {}

    def _NetworkDriver_RevokeExternalConnectivity(self, body: dict[str, Any]) -> Answer:
        self.kept.programmed.pop(body["EndpointID"], None)
        return {}

    def _IpamDriver_GetCapabilities(self, body: dict[str, Any]) -> Answer:
        return self.ipam_capabilities

    def _IpamDriver_GetDefaultAddressSpaces(self, body: dict[str, Any]) -> Answer:
        return {"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "everywhere"}

    def _IpamDriver_RequestPool(self, body: dict[str, Any]) -> Answer:
        self._pools += 1
        chosen = f"fd77:{self._pools}::/64" if body["V6"] else f"10.77.{self._pools}.0/24"
        pool = body["Pool"] or chosen
        self.kept.pools.add(f"here/{pool}")
        return {"PoolID": f"here/{pool}", "Pool": pool, "Data": {}}

    def _IpamDriver_ReleasePool(self, body: dict[str, Any]) -> Answer:
        self.kept.pools.discard(body["PoolID"])
        return {}

    def _IpamDriver_RequestAddress(self, body: dict[str, Any]) -> Answer:
        prefix, _, length = body["PoolID"].removeprefix("here/").partition("/")
        base = prefix.rpartition(":" if ":" in prefix else ".")[0] + (":" if ":" in prefix else ".")
        free = (f"{base}{number}" for number in range(1, 255))
        chosen = next(a for a in free if f"{body['PoolID']} {a}" not in self.kept.addresses)
        address = body["Address"] or chosen
        self.kept.addresses.add(f"{body['PoolID']} {address}")
        return {"Address": f"{address}/{length}", "Data": {}}

    def _IpamDriver_ReleaseAddress(self, body: dict[str, Any]) -> Answer:
        self.kept.addresses.discard(f"{body['PoolID']} {body['Address']}")
        return {}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, plugin: ScriptedPlugin) -> None:
        self.plugin = plugin
        self.open: set[socket.socket] = set()
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: who hung up had enough."""

    def close_connections(self) -> None:
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A plugin that has a socket answers here too: on a port of 127.0.0.1 in the calling thread's network namespace."""

    daemon_threads = True

    def __init__(self, plugin: ScriptedPlugin, tls: ssl.SSLContext | None = None) -> None:
        self.plugin = plugin
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def address(self) -> str:
        return "{}:{}".format(*self.server_address)

    @contextmanager
    def serving(self) -> Iterator[TcpServer]:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server | TcpServer

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.plugin.reply(Call(self.path.removeprefix("/"), raw, dict(self.headers)))
        if reply.delay:
            time.sleep(reply.delay)
        self.close_connection = bool(reply.hang_up)
        if reply.hang_up == "before":
            return
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if reply.hang_up else reply.body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is in `calls`."""


@contextmanager
def scripted_plugin(path: Path, *implements: str) -> Iterator[ScriptedPlugin]:
    plugin = ScriptedPlugin(path, implements or ("NetworkDriver", "IpamDriver"))
    try:
        yield plugin
    finally:
        plugin.stop()
