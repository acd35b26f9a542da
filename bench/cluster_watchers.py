"""Hosts as far as etcd knows them: many in few processes, each with a connection of its own, over which it reads a
network and then hears of its changes.

They do not do what a host does besides (renew a lease, look whether the member is there): hundreds of them share a
processor here, and each would take the others' slowness for a member that hangs. Started by `Watchers`.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc

from bench.child import Child, serve
from cnm.cluster import keys
from cnm.cluster.etcd import codec
from cnm.cluster.etcd.channel import Connection, Credentials
from cnm.cluster.etcd.client import SERVER_NAME
from cnm.cluster.etcd.messages import MESSAGES, RANGE, WATCH

_PROCESSES = 4
_PATIENCE_SECONDS = 120.0
_ANSWER_SECONDS = 10.0
_AT_ONCE = 8
"""Of one process: a connection whose handshake takes a second is given up."""


class _Work:
    """What the commands do."""

    def __init__(self, place: Path, endpoints: Sequence[str]) -> None:
        pems = [(place / name).read_bytes() for name in ("ca.pem", "root.pem", "root-key.pem")]
        self._credentials = Credentials(*pems, SERVER_NAME)
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._heard: dict[str, list[float]] = {}
        self._deliveries = 0
        self._following = threading.Semaphore(0)
        self._gate = threading.Semaphore(_AT_ONCE)

    def open(self, networks: list[str]) -> float:
        """A watcher for each; seconds until all hear of changes."""
        began = time.monotonic()
        for network in networks:
            threading.Thread(target=self._watch, args=(network,), daemon=True).start()
        for _ in networks:
            if not self._following.acquire(timeout=_PATIENCE_SECONDS):
                raise RuntimeError("a watcher hears of nothing")
        return time.monotonic() - began

    def _watch(self, network: str) -> None:
        connection = Connection(random.choice(self._endpoints), self._credentials)
        which = codec.key_range(keys.endpoints(network), prefix=True)
        with self._gate:
            read = self._read(connection, RANGE.request(**which, serializable=True))
        create = MESSAGES["WatchCreateRequest"](**which, start_revision=read.header.revision + 1)
        for answer in connection.converse(WATCH, _only(WATCH.request(create_request=create))):
            if answer.created:
                self._following.release()
            self._hear([codec.key_text(event.kv.key) for event in answer.events])

    @staticmethod
    def _read(connection: Connection, request: Any) -> Any:
        """As a host that comes in does: again and again."""
        while True:
            try:
                return connection.call(RANGE, request, _ANSWER_SECONDS, leader=False)
            except grpc.RpcError:
                time.sleep(random.random())

    def _hear(self, changed: Sequence[str]) -> None:
        now = time.monotonic()
        with self._lock:
            for key in changed:
                self._deliveries += 1
                self._heard.setdefault(key, []).append(now)

    def heard(self) -> dict[str, list[float]]:
        """When each key's change came to each watcher, since the last time."""
        with self._lock:
            heard, self._heard = self._heard, {}
        return heard

    def deliveries(self) -> int:
        with self._lock:
            return self._deliveries


def _only(request: Any) -> Iterator[Any]:
    """It, and no end."""
    yield request
    SimpleQueue[None]().get()


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
