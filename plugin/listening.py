"""Where the plugins are served: on Unix sockets in the directory where dockerd looks, and over TCP if wanted."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable

from cnm.config import Settings
from cnm.errors import CnmError
from cnm.http.listener import Place, UnixPlace
from cnm.http.server import Server
from cnm.plugin import discovery, tcp
from cnm.plugin.faces import Face, socket_path


class PluginServers:
    """The servers of all faces.

    `inherited` are listening sockets by their paths that a service manager made; those that are used are taken out.
    """

    def __init__(
        self, faces: Iterable[Face], settings: Settings, inherited: dict[str, socket.socket]
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
                discovery.write(name, self._settings)

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


def _places(name: str, settings: Settings, inherited: dict[str, socket.socket]) -> list[Place]:
    path = socket_path(settings.plugin_dir, name)
    places: list[Place] = [UnixPlace(path, inherited.pop(path, None))]
    if settings.plugin_tcp is not None and name in settings.plugin_tcp.listen:
        places.append(tcp.place(settings.plugin_tcp, name))
    return places


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        raise CnmError(f"cannot make {path}: {os.strerror(error.errno or 0).lower()}") from None
