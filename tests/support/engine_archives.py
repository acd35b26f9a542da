"""What a real dockerd answers about archives of a container, over its socket."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import tarfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """Of an error; "" for others."""
        return "" if self.status < 400 else str(json.loads(self.body)["message"])

    @property
    def path_stat(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(base64.b64decode(self.headers["X-Docker-Container-Path-Stat"]))
        return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(socket_path: Path, method: str, place: str, body: bytes | None = None, **query: str) -> Answer:
    connection = _Connection(socket_path)
    try:
        connection.request(method, f"{place}?{urllib.parse.urlencode(query)}", body)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


OLD = 1_700_000_000
"""Times after it are of the test's own run, and told as None."""
_TOUCHED = {"etc", "dev", "./etc", "./dev", "/etc", "/dev"}
"""Docker's own files are laid there, so their times are of the run."""


def listing(archive: bytes) -> dict[str, tuple[object, ...]]:
    """All that an archive says of its entries, by their names; of modes, Docker stores the file's type, too."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        return {entry.name: _row(found, entry) for entry in found}


def _row(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[object, ...]:
    file = archive.extractfile(entry) if entry.isreg() else None
    when = entry.mtime if entry.mtime < OLD and entry.name not in _TOUCHED else None
    return (
        *(entry.type, oct(entry.mode & 0o7777), entry.uid, entry.gid, when),
        *(entry.linkname, entry.devmajor, entry.devminor, file.read() if file else b""),
    )
