"""Hosts as far as etcd knows them: many of the project's own clients in few processes, each with a connection of its
own, a lease, and a watch on the endpoints of one network.

It reads commands, one JSON line each, and answers with one; started by `Watchers`.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.child import Child, serve
from cnm.cluster import keys
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import EtcdError, Event, Following, Listener, Snapshot

_PROCESSES = 4
_LEASE_SECONDS = 10
_PATIENCE_SECONDS = 120.0


class _Work:
    """What the commands do."""

    def __init__(self, place: Path, endpoints: Sequence[str]) -> None:
        self._pems = [(place / name).read_bytes() for name in ("ca.pem", "root.pem", "root-key.pem")]
        self._endpoints = endpoints
        self._clients: list[Client] = []
        self._lock = threading.Lock()
        self._heard: dict[str, list[float]] = {}
        self._deliveries = 0

    def open(self, networks: list[str]) -> float:
        """A watcher for each; seconds until all hear of changes. Each reads its network first, as a host does."""
        began, missing = time.monotonic(), threading.Semaphore(0)
        for network in networks:
            client = Client(self._endpoints, *self._pems)
            self._clients.append(client)
            prefix = keys.endpoints(network)
            snapshot = _read(client, prefix)
            client.keep_lease(_LEASE_SECONDS, lambda lease: None)

            def stands(how: Following) -> None:
                if how is Following.CURRENT:
                    missing.release()

            client.watch(prefix, snapshot.revision + 1, Listener(self._changed, stands))
        for _ in networks:
            if not missing.acquire(timeout=_PATIENCE_SECONDS):
                raise RuntimeError("a watcher hears of nothing")
        return time.monotonic() - began

    def _changed(self, events: Sequence[Event], revision: int) -> None:
        now = time.monotonic()
        with self._lock:
            for event in events:
                self._deliveries += 1
                self._heard.setdefault(event.key, []).append(now)

    def heard(self) -> dict[str, list[float]]:
        """When each key's change came to each watcher, since the last time."""
        with self._lock:
            heard, self._heard = self._heard, {}
        return heard

    def deliveries(self) -> int:
        with self._lock:
            return self._deliveries


def _read(client: Client, prefix: str) -> Snapshot:
    """As a host does that comes in: again and again, while all others come at the same time."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return client.list(prefix, stale=True)
        except EtcdError:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.random())


class Watchers:
    """Some processes; what one process would answer is put together."""

    def __init__(self, place: Path, endpoints: Sequence[str]) -> None:
        """`place` is an EtcdCluster's."""
        self._children = [Child(__spec__.name, str(place), *endpoints) for _ in range(_PROCESSES)]

    def open(self, networks: Sequence[str]) -> float:
        """Seconds until all hear of changes; all begin at once."""
        for number, child in enumerate(self._children):
            child.begin("open", networks[number::_PROCESSES])
        return max(float(child.finish()) for child in self._children)

    def heard(self) -> dict[str, list[float]]:
        joined: dict[str, list[float]] = {}
        for child in self._children:
            for key, times in child.ask("heard").items():
                joined.setdefault(key, []).extend(times)
        return joined

    def deliveries(self) -> int:
        return sum(child.ask("deliveries") for child in self._children)

    def __enter__(self) -> Watchers:
        return self

    def __exit__(self, *exc: object) -> None:
        for child in self._children:
            child.kill()


if __name__ == "__main__":
    serve(_Work(Path(sys.argv[1]), sys.argv[2:]))
    os._exit(0)  # hundreds of connections need no farewell
