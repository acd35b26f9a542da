"""A lease that is kept alive, and replaced where it was lost."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from cnm.cluster.etcd.calls import Calls, Effect
from cnm.cluster.etcd.contract import EtcdError
from cnm.cluster.etcd.messages import LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE
from cnm.errors import CnmError, Conflict

log = logging.getLogger("cnm.cluster")

_RETRY_SECONDS = 0.5
"""After a call that failed; it has taken its time itself."""
_REFUSED_SECONDS = 5.0
"""After one that was refused."""


class KeptLease:
    """Signs of life are single calls, three in each of its lives: where a member fails, the next one takes them.

    etcd has a stream for them, and answers a single one on it as well.
    """

    def __init__(self, calls: Calls, seconds: int, renewed: Callable[[int], None]) -> None:
        self.id = 0
        self._calls = calls
        self._seconds = seconds
        self._renewed = renewed
        self._closed = threading.Event()
        self._telling = threading.RLock()
        self._news: SimpleQueue[int] = SimpleQueue()
        for name, work in (("etcd-lease", self._run), ("etcd-renewed", self._tell)):
            threading.Thread(target=work, name=name, daemon=True).start()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self, *, revoke: bool = False) -> None:
        """`renewed` is not called any more when this returns. Raises EtcdError where it cannot be revoked: it runs out
        by itself then."""
        self._closed.set()
        self._news.put(0)
        with self._telling:
            number, self.id = self.id, 0
        if revoke and number:
            self._revoke(number)

    def _revoke(self, number: int) -> None:
        try:
            self._calls.ask(LEASE_REVOKE, LEASE_REVOKE.request(ID=number), "revoke the lease", Effect.SAME)
        except EtcdError as error:
            if "lease not found" not in str(error):
                raise

    # The threads.

    def _run(self) -> None:
        wait = 0.0
        while not self._closed.wait(wait):
            try:
                wait = self._keep() if self.id else self._obtain()
            except EtcdError as error:
                log.info("%s", error)
                wait = _RETRY_SECONDS
            except CnmError as error:
                log.warning("%s", error)
                wait = _REFUSED_SECONDS

    def _obtain(self) -> float:
        """When to do something again, in seconds."""
        number = random.getrandbits(62) + 1  # ours, so that it may be asked for twice
        request = LEASE_GRANT.request(TTL=self._seconds, ID=number)
        with suppress(Conflict):  # it exists: the first answer was lost
            self._calls.ask(LEASE_GRANT, request, "grant a lease", Effect.SAME)
        with self._telling:
            if self._closed.is_set():
                return 0.0
            self.id = number
        self._news.put(number)
        return self._seconds / 3

    def _keep(self) -> float:
        number = self.id
        request = LEASE_KEEP_ALIVE.request(ID=number)
        answer = self._calls.ask(LEASE_KEEP_ALIVE, request, "keep the lease alive", Effect.SAME)
        if answer.TTL > 0 or self._closed.is_set():
            return self._seconds / 3
        log.warning("the lease was lost: etcd heard nothing for %d s, or it was revoked", self._seconds)
        self.id = 0
        return 0.0

    def _tell(self) -> None:
        while number := self._news.get():
            with self._telling:
                if self._closed.is_set():
                    return
                if number != self.id:  # lost again meanwhile
                    continue
                try:
                    self._renewed(number)
                except Exception:
                    log.exception("what is kept by a lease could not be renewed")
