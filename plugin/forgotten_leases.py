"""Addresses that dockerd holds of the cluster's and forgot: it died before it noted down whom they were for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from cnm.dockerd_verbs import DockerdVerbs
from cnm.errors import CnmError
from cnm.leases import Leases

log = logging.getLogger("cnm.plugin")

_FORGOTTEN_SECONDS = 60.0
"""For which no endpoint must have had an address; dockerd makes the endpoint some milliseconds after it has one."""


class ForgottenLeases:
    """A claim that nobody gives back would keep its network from being deleted in the whole cluster."""

    def __init__(
        self, leases: Leases, dockerd: DockerdVerbs, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._leases = leases
        self._dockerd = dockerd
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}
        """(pool's id, address) that nothing has, and since when."""

    def give_back(self) -> None:
        """What no endpoint has had for a while."""
        now = self._clock()
        leased = [each for each in self._leases.addresses() if not each.gateway]
        held = self._dockerd.held_addresses()
        idle = [(each.pool_id, each.address) for each in leased if each.cidr not in held]
        self._since = {each: self._since.get(each, now) for each in idle}
        for (pool_id, address), since in list(self._since.items()):
            if now - since >= _FORGOTTEN_SECONDS:
                log.warning("address %s was forgotten by dockerd: given back to the cluster", address)
                try:
                    self._leases.release_address(pool_id, address)
                except CnmError as error:
                    log.warning("address %s stays: %s", address, error)
