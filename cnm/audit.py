"""Compares, every few minutes, what the kernel, this daemon and the cluster know of each other, and mends what differs.

Nothing is expected to differ: watches tell of every change. What is found is a fault of somebody, and logged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cnm.cluster.etcd.contract import Denied, EtcdError, Following
from cnm.cluster.probe import ProbeSegment
from cnm.cluster.segment import Segment
from cnm.errors import CnmError, KernelError, NotFound
from cnm.resources import Resources
from cnm.rounds import Rounds

_ROUND_SECONDS = 300.0
_AFTER_SECONDS = 5.0
"""After a time without the cluster, when everybody comes back at once."""
_REST_SECONDS = 0.2
"""Between two networks: verbs and changes go first."""
_NODES_A_ROUND = 50
"""In a bigger cluster not every round asks etcd for everything."""

log = logging.getLogger(__name__)


class Audit:
    """Its thread runs from `start` to `close`. `clashes` are addresses of this host that another one claims."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources
        self._rounds = Rounds("audit", _ROUND_SECONDS, self._round)
        self._closing = threading.Event()
        self._count = 0
        self.clashes: list[str] = []

    def start(self) -> None:
        self._closing.clear()
        self._rounds.start()

    def close(self) -> None:
        self._closing.set()
        self._rounds.close()

    def soon(self) -> None:
        """The cluster was away and is back, or something could not be told it."""
        self._rounds.soon(_AFTER_SECONDS)

    def forget(self) -> None:
        """This host has left the cluster."""
        self.clashes = []

    def _round(self) -> None:
        self._count += 1
        every = max(1, len(self._r.cluster.nodes.all()) // _NODES_A_ROUND)
        self.run(thorough=self._count % every == 0)

    def run(self, *, thorough: bool = True) -> int:
        """How much was wrong; `thorough`: in etcd, too. What cannot be looked at is left for a round that is soon."""
        steps: list[Callable[[], int]] = [
            *(lambda each=each: self._kernel(each) for each in self._r.cluster.tunnels()),
        ]
        if thorough and self._r.cluster.stands is Following.CURRENT:
            steps += [mirror.audit for mirror in self._r.cluster.mirrors()]
            steps += [self._claims, self._r.cluster.audit_session]
        wrong = sum(self._step(step) for step in steps)
        self._r.cluster.tally.repaired(wrong)
        return wrong

    def _step(self, step: Callable[[], int]) -> int:
        if self._closing.is_set():
            return 0
        try:
            return step()
        except EtcdError as error:
            log.debug("not everything was compared: %s", error)
            self.soon()
        except Denied as error:
            log.debug("not everything may be compared: %s", error)
        except CnmError as error:
            log.error("not mended: %s", error)
        finally:
            self._closing.wait(_REST_SECONDS)
        return 0

    def _kernel(self, tunnel: Segment | ProbeSegment) -> int:
        try:
            wrong = tunnel.mend()
        except (NotFound, KernelError):
            if tunnel in self._r.cluster.tunnels() and self._r.kernel.namespace_alive(tunnel.namespace):
                raise
            return 0  # this host takes no part any more, or doctor's business
        if wrong:
            log.warning("%s: %d entries of other hosts' endpoints were wrong: mended", tunnel.tunnel, wrong)
        return wrong

    def _claims(self) -> int:
        made, self.clashes = self._r.cluster.ipam.claim_again()
        for address in self.clashes:
            log.error("address %s of this host is claimed by another one: disconnect one of them", address)
        given_back = self._r.cluster.ipam.give_back_strangers()
        if given_back:
            log.warning("%d claims of addresses that nothing here has were given back", given_back)
        return made + given_back
