"""Containers of dockerd's that ask at an address of the host's for names: from where each does, and what it may know.

Such a query comes from dockerd's server inside the container's namespace, with whatever address that sends to the host
from (docker_gwbridge's, or another network's), which says nothing of the cluster's networks. So it is looked at in the
namespace itself. An address that two containers would ask from is nobody's.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterable

from cnm.drivers import overlay
from cnm.errors import CnmError, NotFound
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind
from cnm.stand_ins import is_stand_in

Sources = dict[str, str]
"""The addresses that containers ask from, by their sandboxes' ids."""


class Visitors:
    """Thread-safe."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources
        self._lock = threading.Lock()
        self._sources: dict[str, Sources] = {}
        """By the address that is asked."""

    def look(self, listeners: Iterable[str]) -> None:
        """Read anew who asks at these bare addresses."""
        containers = [
            s for s in self._r.model.sandboxes() if s.kind is SandboxKind.DOCKERD and self._zones(s.id)
        ]
        sources = {each: self._asking_at(each, containers) for each in listeners}
        with self._lock:
            self._sources = sources
            self._tell()

    def left(self) -> None:
        """A container is in fewer networks than before."""
        with self._lock:
            self._tell()

    def _asking_at(self, listener: str, containers: Iterable[Sandbox]) -> Sources:
        return {each.id: source for each in containers if (source := self._source(each, listener))}

    def _source(self, container: Sandbox, listener: str) -> str:
        """ "" where nothing gets from there to the host, or the container has just ended."""
        try:
            return self._r.kernel.source_towards(container.netns, listener)
        except CnmError:
            return ""

    def _tell(self) -> None:
        for listener, sources in self._sources.items():
            asking = [(source, zones) for ident, source in sources.items() if (zones := self._zones(ident))]
            shared = Counter(source for source, _ in asking)
            visitors = {source: zones for source, zones in asking if shared[source] == 1}
            self._r.naming.visited_by(listener, visitors)

    def _zones(self, sandbox_id: str) -> list[str]:
        """The cluster's networks that the container is in: ids, in the order of their names."""
        networks = []
        for endpoint in self._r.model.endpoints_of_sandbox(sandbox_id):
            with contextlib.suppress(NotFound):  # it may go at any time
                networks.append(self._r.model.network(endpoint.network_id))
        shared = sorted(filter(is_stand_in, networks), key=lambda network: network.name)
        return [network.decided[overlay.SEGMENT] for network in shared]
