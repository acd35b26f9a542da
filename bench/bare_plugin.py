"""The least that a plugin can do for dockerd: a veth pair at Join, and nothing else that takes time.

What a disconnect costs with it is dockerd's own and the kernel's moving of the link: no plugin whose links
dockerd moves can be faster.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import floor
from netns_fixtures import Host
from tests.support.minimal_plugin import MinimalPlugin, Reply, serve

_DELETED_AFTER_SECONDS = 0.05
"""Behind the answer, and before the next thing is timed."""


class BarePlugin(MinimalPlugin):
    """On no bridge, with no rule; `links` is a NETLINK_ROUTE socket of dockerd's namespace."""

    def __init__(self, links: socket.socket) -> None:
        super().__init__()
        self._links = links
        self._turn = threading.Lock()

    def _Join(self, request: dict[str, Any]) -> Reply:
        end = request["EndpointID"][:8]
        with self._turn:
            floor.send(self._links, floor.named_pair(f"vh{end}", f"vc{end}"))
        answer = super()._Join(request)
        assert answer is not None
        return {**answer, "StaticRoutes": []}

    def _DeleteEndpoint(self, request: dict[str, Any]) -> Reply:
        threading.Timer(_DELETED_AFTER_SECONDS, self._delete, (f"vh{request['EndpointID'][:8]}",)).start()
        return {}

    def _delete(self, name: str) -> None:
        with self._turn:
            floor.send(self._links, floor.named_deletion(name))


@contextlib.contextmanager
def serve_bare(host: Host, path: Path) -> Iterator[None]:
    """On this host, known to its dockerd by the socket's name."""
    with (
        host.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as links,
        serve(BarePlugin(links), path),
    ):
        yield
