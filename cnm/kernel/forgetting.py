"""Forgets the flows of departed containers behind the answer to the verb.

Looking through the kernel's table of flows takes some 4 ms whatever is in it, and a departed container sends and
receives nothing any more. Whoever takes one of its addresses again waits until they are forgotten.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from cnm.errors import KernelError
from cnm.kernel.conntrack import Conntrack

log = logging.getLogger(__name__)


class Forgetter:
    """One thread over one Conntrack."""

    def __init__(self, conntrack: Conntrack) -> None:
        self._conntrack = conntrack
        self._condition = threading.Condition()
        self._waiting: list[str] = []
        self._pending: set[str] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="forgetter", daemon=True)
        self._thread.start()

    def forget(self, addresses: Sequence[str]) -> None:
        """Forget every flow of these containers (bare address text) soon."""
        with self._condition:
            self._waiting += addresses
            self._pending.update(addresses)
            self._condition.notify_all()

    def settle(self, addresses: Iterable[str]) -> None:
        """Wait until nothing is left to forget of these addresses; most often there is nothing."""
        wanted = frozenset(addresses)
        with self._condition:
            self._condition.wait_for(lambda: self._pending.isdisjoint(wanted))

    def close(self) -> None:
        """Finish what waits."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                addresses, self._waiting = self._waiting, []
            if not addresses:
                return
            try:
                self._conntrack.flush_addresses(addresses)
            except KernelError as error:
                log.error("flows of %s are not forgotten: %s", ", ".join(addresses), error)
            with self._condition:
                self._pending -= set(addresses) - set(self._waiting)
                self._condition.notify_all()
