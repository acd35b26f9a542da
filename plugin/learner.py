"""A background worker that learns from dockerd's API what its plugin protocol does not say.

Names of networks and containers; whether links may be made inside dockerd's sandboxes; and which of its networks
dockerd has forgotten. No request waits for it, and without an answer nothing is assumed: links are moved, networks
stay.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from cnm.dockerd_verbs import DockerdVerbs
from cnm.errors import CnmError, Unavailable
from cnm.model import SHORT
from cnm.network import Network
from cnm.plugin.dockerd_api import DockerdApi, NetworkRecord

log = logging.getLogger("cnm.plugin")

_SETTLE_SECONDS = 0.5
"""dockerd notes down what it made some time after it has made it."""
_LOOK_SECONDS = 60.0
_AWAY_SECONDS = 30.0
"""Between two looks while dockerd does not answer; one that starts makes itself known."""
_FORGOTTEN_SECONDS = 30.0
"""For which dockerd must have known nothing of a network before that is believed."""
_SAFE_WITH_LIVE_RESTORE = 29
"""Before this version, dockerd crashes when it takes direct links up again that it kept alive."""


class Learner:
    """One thread; `api` is None where nothing is to be asked."""

    def __init__(
        self, api: DockerdApi | None, dockerd: DockerdVerbs, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._dockerd = dockerd
        self._clock = clock
        self._news = threading.Event()
        self._stopping = False
        self._direct_is_safe = False
        self._started = 0
        """How often a dockerd has made itself known."""
        self._caller = 0
        self._unknown: dict[str, float] = {}
        """Networks that dockerd does not know, and since when."""
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def start(self) -> None:
        if self._api is not None:
            self._thread.start()

    def close(self) -> None:
        self._stopping = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def dockerd_started(self, process: int) -> None:
        """A dockerd has made itself known: what was learnt of the one before holds no more."""
        self._started += 1
        self._direct_is_safe = False
        self._caller = process
        self._news.set()

    def has_news(self) -> None:
        """dockerd has made something that has no name here yet."""
        self._news.set()

    @property
    def direct_is_safe(self) -> bool:
        """Whether dockerd is known to live with links that it did not move itself."""
        return self._direct_is_safe

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping:
            self._news.wait(pause)
            if self._stopping:
                return
            if self._news.is_set():
                self._news.clear()
                time.sleep(_SETTLE_SECONDS)
            pause = self._look()

    def _look(self) -> float:
        """Ask everything once; returns for how many seconds to wait unless there is news."""
        assert self._api is not None
        try:
            self._learn_safety(self._api)
            self._learn_networks(self._api)
        except Unavailable as error:
            log.debug("%s", error)
            self._direct_is_safe = False
            return _AWAY_SECONDS
        except CnmError as error:
            log.warning("learning from dockerd: %s", error)
        return _LOOK_SECONDS if not self._unknown else _FORGOTTEN_SECONDS / 2

    def _learn_safety(self, api: DockerdApi) -> None:
        """Only if no other dockerd started meanwhile: the answer would be about the one before."""
        started = self._started
        safe = not api.info().live_restore_enabled or _major(api.version().version) >= _SAFE_WITH_LIVE_RESTORE
        if started == self._started:
            self._direct_is_safe = safe

    def _learn_networks(self, api: DockerdApi) -> None:
        known = {network.id: network for network in api.networks()}
        ours = self._dockerd.networks()
        for network in ours:
            if network.id in known:
                self._unknown.pop(network.id, None)
                self._learn_names(api, network, known[network.id])
        missing = [network for network in ours if network.id not in known]
        self._forget(api, missing)

    def _learn_names(self, api: DockerdApi, network: Network, record: NetworkRecord) -> None:
        if network.name != record.name:
            self._dockerd.rename_network(network, record.name)
        if not self._dockerd.has_unnamed(network):
            return
        for attached in (api.network(network.id).containers or {}).values():
            self._dockerd.rename_container(attached.endpoint_id, attached.name)

    def _forget(self, api: DockerdApi, missing: list[Network]) -> None:
        """Delete what dockerd does not know for a while: it removed it while nobody listened, or died over it.

        Only what it once knew, or what its own process asked for: another dockerd may use this plugin, too.
        """
        now = self._clock()
        since = {network.id: self._unknown.get(network.id, now) for network in missing}
        self._unknown = since
        for network in missing:
            if now - since[network.id] < _FORGOTTEN_SECONDS:
                continue
            if is_named(network) or (self._caller and api.is_served_by(self._caller)):
                log.warning("network %s was forgotten by dockerd: removed", network.name)
                self._dockerd.delete_network(network.id)


def is_named(network: Network) -> bool:
    """Whether dockerd was once asked for the network's name, and knew it."""
    return network.name != f"docker-{network.id[:SHORT]}"


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
