"""The nodes of the cluster that are alive, and where their tunnels end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import Event, KeyValue
from cnm.cluster.mirror import differing
from cnm.cluster.records import Node

log = logging.getLogger(__name__)

Changed = Callable[[str, Node | None, Node | None], None]
"""(name, what it was, what it is); None where it is not there."""


class Nodes:
    """A mirror's handler. `changed` is called after each change, `known` when all that there are were heard of: both
    without a lock."""

    def __init__(self, changed: Changed, known: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._known = known
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._lost: dict[str, float] = {}

    def all(self) -> list[Node]:
        with self._lock:
            return list(self._nodes.values())

    def get(self, name: str) -> Node | None:
        with self._lock:
            return self._nodes.get(name)

    def lost(self, name: str) -> float:
        """When a node that is not alive was last seen by this host, in seconds since the epoch; 0: never."""
        with self._lock:
            return self._lost.get(name, 0.0)

    def reset(self, items: Sequence[KeyValue]) -> None:
        found = {item.key.removeprefix(keys.NODES): _parse(item.key, item.value) for item in items}
        self._put({**dict.fromkeys(node.name for node in self.all()), **found})
        self._known()

    def unlike(self, items: Sequence[KeyValue]) -> dict[str, int]:
        there = {item.key: (_parse(item.key, item.value), item.mod_revision) for item in items}
        with self._lock:
            known = {keys.node(name): node for name, node in self._nodes.items()}
        return differing(there, known)

    def change(self, events: Sequence[Event]) -> None:
        last = {event.key: event.value for event in events}
        self._put(
            {
                key.removeprefix(keys.NODES): _parse(key, value) if value is not None else None
                for key, value in last.items()
            }
        )

    def _put(self, nodes: Mapping[str, Node | None]) -> None:
        """All at once: whoever hears of the first asks for all that there are."""
        with self._lock:
            before = {name: self._nodes.pop(name, None) for name in nodes}
            self._nodes |= {name: node for name, node in nodes.items() if node is not None}
            for name, node in nodes.items():
                if node is not None:
                    self._lost.pop(name, None)
                elif before[name] is not None:
                    self._lost[name] = time.time()
        for name, node in nodes.items():
            if before[name] != node:
                self._changed(name, before[name], node)


def _parse(key: str, value: bytes) -> Node | None:
    try:
        node = records.decode(value, Node)
    except msgspec.DecodeError as error:
        log.error("%s is no node's record: %s", key, error)
        return None
    if node.name != key.removeprefix(keys.NODES):  # a node may write its own key, and say anything there
        log.error("%s is no record of that node: it is called %s there", key, node.name)
        return None
    return node
