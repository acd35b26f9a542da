"""Which containers have a volume among their mounts, running or not: who has it keeps it from being removed."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Use:
    """Thread-safe. What the containers' records say, by volume."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._containers: dict[str, dict[str, None]] = {}

    def add(self, volume: str, container: str) -> None:
        with self._lock:
            self._containers.setdefault(volume, {})[container] = None

    def drop(self, volumes: Iterable[str], container: str) -> None:
        """Those that it does not have are fine."""
        with self._lock:
            for volume in volumes:
                found = self._containers.get(volume, {})
                found.pop(container, None)
                if not found:
                    self._containers.pop(volume, None)

    def of(self, volume: str) -> list[str]:
        """Ids, in the order in which they came."""
        with self._lock:
            return list(self._containers.get(volume, ()))
