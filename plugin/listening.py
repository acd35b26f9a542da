"""Where the plugins are served, and the files by which dockerd finds those that are not in its own directory."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping

from cnm.config import PluginTcp, Settings
from cnm.errors import CnmError, InvalidParameter
from cnm.http.listener import Place, TlsPlace, UnixPlace
from cnm.http.server import Server
from cnm.plugin.faces import Face, socket_path


class PluginServers:
    """The servers of all faces. `inherited` are listening sockets by their paths that a service manager made."""

    def __init__(
        self, faces: Iterable[Face], settings: Settings, inherited: Mapping[str, socket.socket]
    ) -> None:
        """Raises InvalidParameter for certificates that cannot be used."""
        self._settings = settings
        self._names = [face.name for face in faces]
        self._servers = [
            Server(face.app, place, threads=settings.threads, error_key="Err")
            for face in faces
            for place in _places(face.name, settings, inherited)
        ]
        self._threads: list[threading.Thread] = []

    def bind(self) -> None:
        """Listen; dockerd's questions wait until `start`. Raises Conflict, InvalidParameter."""
        _make_directory(self._settings.plugin_dir)
        for server in self._servers:
            server.bind()
        if self._settings.plugin_spec_dir:
            _make_directory(self._settings.plugin_spec_dir)
            for name in self._names:
                _write_discovery(name, self._settings)

    def start(self) -> None:
        for server in self._servers:
            thread = threading.Thread(target=server.serve, name="plugin", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Finish the requests that have begun."""
        for server in self._servers:
            server.stop()
        for thread in self._threads:
            thread.join()


def _places(name: str, settings: Settings, inherited: Mapping[str, socket.socket]) -> list[Place]:
    path = socket_path(settings.plugin_dir, name)
    places: list[Place] = [UnixPlace(path, inherited.get(path))]
    tcp = settings.plugin_tcp
    if tcp is not None and name in tcp.listen:
        host, port = split_address(tcp.listen[name])
        places.append(TlsPlace(host, port, _tls(tcp)))
    return places


def split_address(text: str) -> tuple[str, int]:
    """The parts of "127.0.0.1:2471" or "[::1]:2471". Raises InvalidParameter."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidParameter(f"plugin-tcp: {text} is not an address with a port, as 127.0.0.1:2471")
    return host.strip("[]"), int(port)


def _tls(tcp: PluginTcp) -> ssl.SSLContext:
    """Clients without a certificate of our authority are turned away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    for what, path in (("ca", tcp.ca), ("cert", tcp.cert), ("key", tcp.key)):
        if not os.path.isfile(path):
            raise InvalidParameter(f"plugin-tcp: {what} {path or '(not given)'} is not a file")
    try:
        context.load_verify_locations(tcp.ca)
        context.load_cert_chain(tcp.cert, tcp.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(f"plugin-tcp: the certificates cannot be used: {error}") from None
    return context


def _write_discovery(name: str, settings: Settings) -> None:
    """NAME.json with the certificates that dockerd is to show, or NAME.spec with the path of the socket."""
    tcp = settings.plugin_tcp
    if tcp is None or name not in tcp.listen:
        text = f"unix://{socket_path(settings.plugin_dir, name)}\n"
        return _write(os.path.join(settings.plugin_spec_dir, f"{name}.spec"), text)
    host, port = split_address(tcp.listen[name])
    described = {
        "Name": name,
        "Addr": f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": tcp.ca,
            "CertFile": tcp.client_cert,
            "KeyFile": tcp.client_key,
        },
    }
    _write(os.path.join(settings.plugin_spec_dir, f"{name}.json"), json.dumps(described, indent=1) + "\n")


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        raise CnmError(f"cannot make {path}: {os.strerror(error.errno or 0).lower()}") from None


def _write(path: str, text: str) -> None:
    """Whole or not at all: dockerd may read at any time."""
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise CnmError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}") from None
