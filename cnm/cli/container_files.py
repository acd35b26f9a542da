"""The files of one container, as the Engine API's archive endpoints serve them."""

from __future__ import annotations

import json
from base64 import b64decode

from cnm.cli.client import quote
from cnm.cli.launcher_client import LauncherClient, query_text
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DIRECTORY, SYMLINK, DEVICE, IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19
"""Bits of the mode that the API tells (Go's os.FileMode)."""


class ContainerFiles:
    """Those of the container with this name or ID; nothing is asked before the first call."""

    def __init__(self, daemon: LauncherClient, container: str) -> None:
        self._daemon = daemon
        self._path = f"/containers/{quote(container)}/archive"
        self.container = container

    def status(self, path: str) -> dict[str, Any] | None:
        """Name, size, mode and linkTarget; None where it is not there or cannot be told."""
        headers = self._daemon.head(self._path + query_text([("path", path)]))
        return _decoded(headers) if headers else None

    def read(self, path: str) -> tuple[dict[str, Any], Iterable[bytes]]:
        answer = self._daemon.download(self._path, {"path": path})
        return _decoded(answer.headers), answer

    def write(self, path: str, pieces: Iterable[bytes], with_owner: bool) -> None:
        pairs = [("path", path), ("noOverwriteDirNonDir", "true")]
        if with_owner:
            pairs.append(("copyUIDGID", "true"))
        with self._daemon.upload("PUT", self._path + query_text(pairs), pieces):
            pass


def _decoded(headers: dict[str, str]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(b64decode(headers["x-docker-container-path-stat"]))
    except (KeyError, ValueError):
        raise CnmError("the daemon does not say what the path in the container is") from None
    return found
