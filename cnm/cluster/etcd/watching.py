"""All watches of a client over one stream; where it ends they go on at another member, from where they were."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import grpc

from cnm.cluster.etcd import codec
from cnm.cluster.etcd.calls import Calls
from cnm.cluster.etcd.channel import Connection
from cnm.cluster.etcd.contract import Denied, EtcdError, Event, Following, Listener
from cnm.cluster.etcd.faults import judge
from cnm.cluster.etcd.messages import MESSAGES, RANGE, WATCH
from cnm.errors import CnmError

log = logging.getLogger("cnm.cluster")

_PULSE = 1.5
"""Seconds between looks at the stream. A silent one is probed at each; the second probe without an answer ends it."""
_DEGRADED_AFTER = 1.5
"""Seconds without a stream, where not all members were tried before."""
_PAUSES = (0.1, 1.0)
"""Seconds before all members are tried again: at first, and at most."""
_BROADCAST = -1
"""The id of answers that are for no watch: to probes, and of refusals."""

_CREATE = MESSAGES["WatchCreateRequest"]
_CANCEL = MESSAGES["WatchCancelRequest"]
_PROBE = WATCH.request(progress_request=MESSAGES["WatchProgressRequest"]())


class _Ended(Exception):
    """The stream is of no use any more."""


class PrefixWatch:
    """One watch; its listener is called by one thread at a time."""

    def __init__(
        self,
        prefix: str,
        revision: int,
        listener: Listener,
        number: int,
        forget: Callable[[PrefixWatch], None],
    ) -> None:
        self.prefix = prefix
        self.number = number
        self._next = revision
        self._listener = listener
        self._forget = forget
        self._calling = threading.RLock()
        self._closed = False
        self._stands: Following | None = None
        self._parts: list[Event] = []

    def close(self) -> None:
        self._forget(self)
        with self._calling:
            self._closed = True

    def request(self) -> Any:
        """That asks for everything that was not heard yet."""
        self._parts = []
        create = _CREATE(
            **codec.key_range(self.prefix, prefix=True),
            start_revision=self._next,
            watch_id=self.number,
            progress_notify=True,
            fragment=True,
        )
        return WATCH.request(create_request=create)

    def created(self, revision: int) -> None:
        self._next = self._next or revision + 1
        self.stand(Following.CURRENT)

    def hear(self, answer: Any) -> None:
        """Events, a part of them, or the news that there were none."""
        if answer.events:
            self._parts += codec.events(answer.events)
        if answer.fragment:
            return
        events, self._parts = self._parts, []
        revision = answer.header.revision
        if not events:
            self._next = revision + 1
            return
        self._next = events[-1].mod_revision + 1
        self._call(lambda: self._listener.changed(events, revision))

    def stand(self, how: Following) -> None:
        if self._stands is not how:
            self._stands = how
            self._call(lambda: self._listener.stands(how))

    def _call(self, tell: Callable[[], None]) -> None:
        with self._calling:
            if self._closed:
                return
            try:
                tell()
            except Exception:
                log.exception("who watches %s failed", self.prefix)


class _Stream:
    """A conversation with one member, as the reader and the one who looks after it see it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.requests: SimpleQueue[Any] = SimpleQueue()
        self.awaited: deque[int] = deque()
        """Watches that were asked for, in that order, and not answered yet."""
        self.heard = time.monotonic()
        self.served = False
        """It has had an answer to a watch."""
        self.busy = False
        """The reader is with a listener, and hears nothing."""
        self.probes = 0
        """Without an answer."""

    def ask_for(self, watch: PrefixWatch) -> None:
        self.awaited.append(watch.number)
        self.requests.put(watch.request())

    def end(self) -> None:
        self.requests.put(None)


class Watching:
    """Thread-safe. Its threads start with the first watch."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._members = calls.members
        self._changed = threading.Condition()
        self._watches: dict[int, PrefixWatch] = {}
        self._last_number = 0
        self._stream: _Stream | None = None
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures = 0
        self._lost_at = 0.0

    def watch(self, prefix: str, revision: int, listener: Listener) -> PrefixWatch:
        with self._changed:
            if self._closed.is_set():
                raise EtcdError("the connection to etcd was closed")
            self._last_number += 1
            made = PrefixWatch(prefix, revision, listener, self._last_number, self._forget)
            self._watches[made.number] = made
            if self._stream is not None:
                self._stream.ask_for(made)
            self._start_locked()
            self._changed.notify_all()
        return made

    def _start_locked(self) -> None:
        if not self._threads:
            for name, work in (("etcd-watch", self._run), ("etcd-pulse", self._look_after)):
                self._threads.append(threading.Thread(target=work, name=name, daemon=True))
                self._threads[-1].start()

    def _forget(self, watch: PrefixWatch) -> None:
        with self._changed:
            if self._watches.pop(watch.number, None) and self._stream is not None:
                cancel = _CANCEL(watch_id=watch.number)
                self._stream.requests.put(WATCH.request(cancel_request=cancel))

    def close(self) -> None:
        """No listener is called any more when this returns."""
        with self._changed:
            self._closed.set()
            watches = list(self._watches.values())
            if self._stream is not None:
                self._stream.end()
            self._changed.notify_all()
        for watch in watches:
            watch.close()

    # The reader's thread.

    def _run(self) -> None:
        while self._wait_for_watches():
            try:
                self._follow(self._members.current())
            except EtcdError:  # closed meanwhile
                return

    def _wait_for_watches(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._watches or self._closed.is_set())
            return not self._closed.is_set()

    def _follow(self, connection: Connection) -> None:
        """Over one stream, until it ends."""
        stream = self._open(connection)
        reason = "the member ended them"
        try:
            self._listen(stream)
        except grpc.RpcError as error:
            reason = judge(error).text
        except _Ended as error:
            reason = str(error)
        with self._changed:
            self._stream = None
        stream.end()
        moved = stream.served and self._members.current() is not connection
        if not moved and not self._closed.is_set():
            self._lost(connection, reason)

    def _open(self, connection: Connection) -> _Stream:
        stream = _Stream(connection)
        with self._changed:
            self._stream = stream
            for watch in self._watches.values():
                stream.ask_for(watch)
        return stream

    def _listen(self, stream: _Stream) -> None:
        try:
            call = stream.connection.converse(WATCH, iter(stream.requests.get, None))
        except ValueError:
            raise _Ended("it was given up") from None
        try:
            for answer in call:
                stream.busy = True
                self._take(stream, answer)
                stream.heard, stream.probes, stream.busy = time.monotonic(), 0, False
        finally:
            call.cancel()

    def _lost(self, connection: Connection, reason: str) -> None:
        """Try the next member; when all were tried, say so, and wait a little."""
        now = time.monotonic()
        if not self._failures:
            self._lost_at = now
        self._failures += 1
        self._members.move_on(connection)
        log.info("the watches at %s ended: %s", connection.endpoint, reason)
        count = len(self._members)
        if self._failures >= count or now - self._lost_at > _DEGRADED_AFTER:
            self._tell_all(Following.DEGRADED)
        if self._failures % count == 0:
            first, most = _PAUSES
            pause = min(first * 2 ** (self._failures // count - 1), most)
            self._closed.wait(pause * random.uniform(0.7, 1.0))

    def _tell_all(self, how: Following) -> None:
        with self._changed:
            watches = list(self._watches.values())
        for watch in watches:
            watch.stand(how)

    def _take(self, stream: _Stream, answer: Any) -> None:
        number = answer.watch_id
        if answer.created:
            number = self._answered(stream, number)
            stream.served, self._failures = True, 0
        watch = self._watches.get(number)
        if watch is None:  # a probe's, or it was closed meanwhile
            return
        if answer.canceled:
            self._cancelled(stream, watch, answer)
        elif answer.created:
            watch.created(answer.header.revision)
        else:
            watch.hear(answer)

    def _answered(self, stream: _Stream, number: int) -> int:
        """Which watch it is. Refusals bear no number: they come in the order in which they were asked for."""
        with self._changed:
            if number == _BROADCAST:
                number = stream.awaited[0] if stream.awaited else number
            if number not in stream.awaited:
                raise _Ended(f"a watch {number} was made that nobody asked for")
            stream.awaited.remove(number)
            return number

    def _cancelled(self, stream: _Stream, watch: PrefixWatch, answer: Any) -> None:
        if answer.compact_revision:
            self._finish(watch, Following.COMPACTED)
        elif "permission denied" in answer.cancel_reason:
            threading.Thread(target=self._check, args=(watch, stream), name="etcd-check", daemon=True).start()
        else:
            raise _Ended(answer.cancel_reason or "a watch was cancelled")

    def _finish(self, watch: PrefixWatch, how: Following) -> None:
        with self._changed:
            self._watches.pop(watch.number, None)
        watch.stand(how)

    def _check(self, watch: PrefixWatch, stream: _Stream) -> None:
        """Ask whether a watch may really not be: a member may not have heard of a new role yet, a read waits until it
        has."""
        request = RANGE.request(**codec.key_range(watch.prefix, prefix=True), limit=1)
        try:
            self._calls.ask(RANGE, request, f"watch {watch.prefix}")
        except Denied as error:
            log.warning("%s", error)
            self._finish(watch, Following.DENIED)
            return
        except CnmError as error:
            log.info("%s", error)
        with self._changed:
            if self._stream is stream and watch.number in self._watches:
                stream.ask_for(watch)

    # The thread that looks after it.

    def _look_after(self) -> None:
        while not self._closed.wait(_PULSE):
            stream = self._stream
            if stream is None or stream.busy or time.monotonic() - stream.heard < _PULSE / 2:
                continue
            if stream.probes >= 2 or (stream.probes and stream.awaited):
                log.warning("the watches move on: %s does not answer", stream.connection.endpoint)
                self._members.give_up(stream.connection)
            elif self._watches or stream.probes:
                stream.probes += 1
                stream.requests.put(_PROBE)
