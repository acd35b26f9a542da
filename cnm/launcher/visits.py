"""Looks into the file systems of containers that do not run: they are mounted for as long as somebody looks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cnm.errors import NotFound
from cnm.launcher.container import Container
from cnm.launcher.parts import Parts


class Visits:
    """Thread-safe. A visit holds no lock: it may end in another thread than it began in, as a streamed answer does.

    So a container may be started, or removed, while it is visited; the last who leaves unmounts only what rests.
    """

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._lock = threading.Lock()
        self._visitors: Counter[str] = Counter()

    @contextmanager
    def of(self, container: Container) -> Iterator[str]:
        """The path of its root, which stays in the block. Raises NotFound where it is removed by now."""
        with self._p.registry.locked(container.id) as now:
            path = self._p.rootfs(now).mount()
            self._count(container.id, 1)
        try:
            yield path
        finally:
            self._count(container.id, -1)
            with suppress(NotFound), self._p.registry.locked(container.id) as now:
                if not self._is_visited(container.id) and not now.state.status.is_alive:
                    self._p.rootfs(now).unmount()

    def _is_visited(self, ident: str) -> bool:
        with self._lock:
            return ident in self._visitors

    def _count(self, ident: str, change: int) -> None:
        with self._lock:
            self._visitors[ident] += change
            if not self._visitors[ident]:
                del self._visitors[ident]
