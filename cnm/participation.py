"""Which networks of the cluster this host takes part in: those that have an endpoint of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Participation:
    """Ids of endpoints that are in a sandbox here, or on their way in or out, by their network. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._inside: dict[str, set[str]] = {}
        """Ids of endpoints by their network's."""

    def __contains__(self, network_id: str) -> bool:
        with self._guard:
            return bool(self._inside.get(network_id))

    def networks(self) -> set[str]:
        with self._guard:
            return {ident for ident, endpoints in self._inside.items() if endpoints}

    def resume(self, network_id: str, endpoint_id: str) -> None:
        """At start-up: it was there before."""
        with self._guard:
            self._inside.setdefault(network_id, set()).add(endpoint_id)

    def enter(self, network_id: str, endpoint_id: str, first: Callable[[], None]) -> bool:
        """`first` is called for the network's first endpoint, and nobody else comes or goes meanwhile; whether it
        was."""
        with self._turn(network_id):
            is_first = network_id not in self
            self.resume(network_id, endpoint_id)
            if is_first:
                try:
                    first()
                except BaseException:
                    self._discard(network_id, endpoint_id)
                    raise
            return is_first

    def leave(self, network_id: str, endpoint_id: str, last: Callable[[], None]) -> None:
        """`last` is called when the network's last endpoint has gone."""
        with self._turn(network_id):
            if self._discard(network_id, endpoint_id):
                last()

    def _discard(self, network_id: str, endpoint_id: str) -> bool:
        """Whether it was the network's last."""
        with self._guard:
            inside = self._inside.get(network_id, set())
            was_last = inside == {endpoint_id}
            inside.discard(endpoint_id)
            if not inside:
                self._inside.pop(network_id, None)
            return was_last

    def _turn(self, network_id: str) -> threading.Lock:
        with self._guard:
            return self._turns.setdefault(network_id, threading.Lock())
