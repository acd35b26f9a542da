"""Everything under a prefix of etcd, followed: a snapshot, then every change; the snapshot again where some were lost.

A watch's thread only queues. One worker hands out what has come, all of a mirror's at once, so that whoever applies it
applies the last state of each key; it never waits for etcd.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cnm.cluster.etcd.contract import (
    Denied,
    Etcd,
    EtcdError,
    Event,
    Following,
    KeyValue,
    Listener,
    Snapshot,
    Watch,
)
from cnm.cluster.tally import Tally

log = logging.getLogger(__name__)

_PAUSES = (0.1, 5.0)
"""Seconds before a snapshot that failed is tried again, the first and the longest."""
_REST = 0.004
"""Seconds of a worker after each round: changes that come one upon the other are handed out together, which is cheaper
than one by one, and the first of them has not waited."""
_ON_ITS_WAY_SECONDS = 1.0
"""For which a change may be known to etcd and not here."""
_NAMED = 5


class Handler(Protocol):
    """Who follows; called by one thread at a time, and must not wait for etcd."""

    def reset(self, items: Sequence[KeyValue]) -> None:
        """Everything there is."""

    def change(self, events: Sequence[Event]) -> None:
        """What changed, in its order; a key may be in it more than once."""

    def unlike(self, items: Sequence[KeyValue]) -> dict[str, int]:
        """Keys that are known otherwise than everything there is, with their revisions there; called by any thread."""


def differing(items: Mapping[str, tuple[object, int]], known: Mapping[str, object]) -> dict[str, int]:
    """For `Handler.unlike`: what each key means and its revision, beside what is known of it."""
    nothing = None, 0
    return {
        key: items.get(key, nothing)[1]
        for key in items.keys() | known.keys()
        if items.get(key, nothing)[0] != known.get(key)
    }


class Worker:
    """Hands out what mirrors have queued, in one thread."""

    def __init__(self, name: str) -> None:
        self._waiting: deque[Mirror] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._rest = threading.Event()
        """Set at the end."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self, mirror: Mirror) -> None:
        with self._condition:
            self._waiting.append(mirror)
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._rest.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                waiting = dict.fromkeys(self._waiting)
                self._waiting.clear()
            for mirror in waiting:
                mirror.hand_out()
            self._rest.wait(_REST)


class Mirror:
    """Follows one prefix from `open` to `close`."""

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        handler: Handler,
        worker: Worker,
        tally: Tally | None = None,
        recovered: Callable[[], None] = lambda: None,
    ) -> None:
        """`recovered` is called when what comes is heard again after a time; it returns at once."""
        self.prefix = prefix
        self._etcd = etcd
        self._handler = handler
        self._worker = worker
        self._tally = tally or Tally()
        self._recovered = recovered
        self._lock = threading.Lock()
        """Of what is queued."""
        self._handing = threading.RLock()
        """Held while the handler is called: what is closed is not called any more."""
        self._queued: list[Event] = []
        self._since = 0.0
        """When the first that is queued came, of the monotonic clock."""
        self._snapshot: Sequence[KeyValue] | None = None
        self._watch: Watch | None = None
        self._closed = threading.Event()
        self._opening: threading.Thread | None = None
        self.stands = Following.DEGRADED
        """How it stands with what is known here."""
        self.revision = 0
        """Of the store, as of the last answer that was heard."""

    def open(self, found: Snapshot | None = None) -> None:
        """Returns when the handler knows everything that was there, as was `found`, or is read. Raises what reading
        raises."""
        self._read(found)
        self.hand_out()

    def open_soon(self) -> None:
        """The same by a thread, which tries until it succeeds."""
        self._opening = threading.Thread(target=self._try, name=f"reading {self.prefix}", daemon=True)
        self._opening.start()

    def close(self) -> None:
        """The handler is not called any more."""
        self._closed.set()
        with self._handing, self._lock:
            self._queued, self._snapshot = [], None
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def hand_out(self) -> None:
        """What has come since the last time; called by the worker."""
        with self._handing:
            with self._lock:
                snapshot, self._snapshot = self._snapshot, None
                events, self._queued = self._queued, []
                since = self._since
            if self._closed.is_set():
                return
            try:
                if snapshot is not None:
                    self._handler.reset(snapshot)
                if events:
                    self._handler.change(events)
                    self._tally.followed(len(events), time.monotonic() - since)
            except Exception:
                log.exception("what changed under %s was not followed: it is read again", self.prefix)
                self._start_again()

    def audit(self) -> int:
        """How many keys are known otherwise than they are; everything is read again then. Raises what reading raises.

        What is on its way here is no difference: the same must be found twice.
        """
        if self.stands is not Following.CURRENT:
            return 0
        first = self._handler.unlike(self._etcd.list(self.prefix).items)
        if not first or self._closed.wait(_ON_ITS_WAY_SECONDS):
            return 0
        second = self._handler.unlike(self._etcd.list(self.prefix).items)
        lost = sorted(key for key, revision in second.items() if first.get(key) == revision)
        if not lost or self._closed.is_set():
            return 0
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        log.warning(
            "%s: %s%s were missed: everything is read again", self.prefix, ", ".join(lost[:_NAMED]), more
        )
        self._start_again()
        return len(lost)

    def _read(self, found: Snapshot | None = None) -> None:
        snapshot = found or self._etcd.list(self.prefix)
        with self._lock:
            if self._closed.is_set():
                return
            self._snapshot, self._queued = snapshot.items, []
            self.revision, self.stands = snapshot.revision, Following.CURRENT
        watch = self._etcd.watch(
            self.prefix, snapshot.revision + 1, Listener(self._changed, self._has_come_to_stand)
        )
        with self._lock:
            if not self._closed.is_set():
                self._watch = watch
                return
        watch.close()

    def _try(self) -> None:
        pause, longest = _PAUSES
        while not self._closed.is_set():
            try:
                self._read()
                self._worker.wake(self)
                return
            except (EtcdError, Denied) as error:
                log.debug("%s: %s", self.prefix, error)
            self._closed.wait(pause)
            pause = min(2 * pause, longest)

    def _start_again(self) -> None:
        with self._lock:
            watch, self._watch = self._watch, None
            self._queued, self._snapshot = [], None
            self.stands = Following.DEGRADED
        if watch is not None:
            watch.close()
        self.open_soon()

    # Called by the watch

    def _changed(self, events: Sequence[Event], revision: int) -> None:
        with self._lock:
            if not self._queued:
                self._since = time.monotonic()
            self._queued += events
            self.revision = revision
        self._worker.wake(self)

    def _has_come_to_stand(self, stands: Following) -> None:
        recovered = self.stands is Following.DEGRADED and stands is Following.CURRENT
        self.stands = stands
        if recovered:
            self._recovered()
        if stands in (Following.COMPACTED, Following.DENIED):
            log.warning("%s: the watch is over (%s): everything is read again", self.prefix, stands.value)
            self._start_again()
