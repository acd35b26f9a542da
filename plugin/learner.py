"""A background worker that learns from dockerd's API what its plugin protocol does not say.

Names of networks and containers; whether links may be made inside dockerd's sandboxes; and which of its networks
dockerd has forgotten. No request waits for it, and without an answer nothing is assumed: links are moved, networks
stay.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping

from cnm.dockerd_verbs import DockerdVerbs
from cnm.errors import CnmError, NotFound, Unavailable
from cnm.leases import Leases
from cnm.model import SHORT
from cnm.network import Network
from cnm.plugin.dockerd_api import DockerdApi, NetworkRecord

log = logging.getLogger("cnm.plugin")

_SETTLE_SECONDS = 0.5
"""dockerd notes down what it made some time after it has made it."""
_REST_SECONDS = 2.0
"""After a look, whatever the news: names are not worth much of dockerd's time."""
_LOOK_SECONDS = 60.0
_AWAY_SECONDS = 30.0
"""Between two looks while dockerd does not answer; one that starts makes itself known."""
_FORGOTTEN_SECONDS = 30.0
"""For which dockerd must have known nothing of a network before that is believed."""
_SAFE_WITH_LIVE_RESTORE = 29
"""Before this version, dockerd crashes when it takes direct links up again that it kept alive."""
_NEVER = (-1, 0.0)


class Learner:
    """One thread; `api` is None where nothing is to be asked. `leases` are the pools by the plugins' names."""

    def __init__(
        self,
        api: DockerdApi | None,
        dockerd: DockerdVerbs,
        leases: Mapping[str, Leases],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._dockerd = dockerd
        self._leases = leases
        self._clock = clock
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._direct_is_safe = False
        self._safety_learnt = _NEVER
        """Of which dockerd, by `_started`, and when."""
        self._started = 0
        """How often a dockerd has made itself known."""
        self._callers: set[int] = set()
        """Processes that asked something of us, as far as they were not found to be the dockerd at `api`."""
        self._proven: set[int] = set()
        """Processes that were that dockerd."""
        self._makers: dict[str, int] = {}
        """The process that asked for a network or a pool, by its id."""
        self._unknown: dict[str, float] = {}
        """Networks that dockerd does not know, and since when."""
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def start(self) -> None:
        if self._api is not None:
            self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def dockerd_started(self) -> None:
        """A dockerd has made itself known: what was learnt of the one before holds no more."""
        self._started += 1
        self._direct_is_safe = False
        self._news.set()

    def heard(self, process: int) -> None:
        """A request came from this process (0: over TCP)."""
        if process and process not in self._callers and process not in self._proven:
            self._callers.add(process)
            self._news.set()

    def made(self, ident: str, process: int) -> None:
        """A process has made a network, or has a pool, of this id."""
        self._makers[ident] = process
        self._news.set()

    def has_news(self) -> None:
        """dockerd has made something that has no name here yet."""
        self._news.set()

    def direct_is_safe(self, process: int) -> bool:
        """Whether this process is the dockerd that is asked, and known to live with links that it did not move."""
        return self._direct_is_safe and process in self._proven

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            if self._news.wait(pause):
                self._stopping.wait(_SETTLE_SECONDS)
            self._news.clear()
            if self._stopping.is_set():
                return
            pause = self.look()
            if pause != _AWAY_SECONDS:
                self._stopping.wait(_REST_SECONDS)

    def look(self) -> float:
        """Ask everything once; returns for how many seconds to wait unless there is news."""
        assert self._api is not None
        try:
            self._prove(self._api)
            self._learn_safety(self._api)
            self._learn_networks(self._api)
        except Unavailable as error:
            log.debug("%s", error)
            self._direct_is_safe = False
            self._safety_learnt = _NEVER
            self._unknown = {}
            return _AWAY_SECONDS
        except CnmError as error:
            log.warning("learning from dockerd: %s", error)
        return _LOOK_SECONDS if not self._unknown else _FORGOTTEN_SECONDS / 2

    def _prove(self, api: DockerdApi) -> None:
        """Find out who is the dockerd that is asked while it lives; it listens before it asks anything of us."""
        for process in self._callers.copy():
            if api.is_served_by(process):
                self._proven.add(process)
                self._callers.discard(process)

    def _is_dockerds(self, ident: str) -> bool:
        """Whether the dockerd that is asked made it, or one before it: another may use this plugin, too."""
        return self._makers.get(ident) in self._proven

    def _learn_safety(self, api: DockerdApi) -> None:
        """Now and then, and of each dockerd anew; if another starts meanwhile, the answer is about the one before."""
        started, now = self._started, self._clock()
        of, at = self._safety_learnt
        if of == started and now - at < _LOOK_SECONDS:
            return
        safe = not api.info().live_restore_enabled or _major(api.version().version) >= _SAFE_WITH_LIVE_RESTORE
        if started == self._started:
            self._direct_is_safe = safe
            self._safety_learnt = started, now

    def _learn_networks(self, api: DockerdApi) -> None:
        makers = list(self._makers)
        known = {network.id: network for network in api.networks()}
        ours = self._dockerd.networks()
        pools = {pool.id for leases in self._leases.values() for pool in leases.pools()}
        for gone in set(makers) - {network.id for network in ours} - pools:
            self._makers.pop(gone, None)
        for network in ours:
            if network.id in known:
                self._learn_names(api, network, known[network.id])
        missing = [network for network in ours if network.id not in known]
        freed = {pool.subnet for network in self._forget(missing) for pool in network.pools}
        self._release(list(known.values()), freed)

    def _learn_names(self, api: DockerdApi, network: Network, record: NetworkRecord) -> None:
        if network.name != record.name:
            self._dockerd.rename_network(network, record.name)
        with contextlib.suppress(NotFound):  # it may go at any time
            if not self._dockerd.has_unnamed(network):
                return
            for attached in (api.network(network.id).containers or {}).values():
                self._dockerd.rename_container(attached.endpoint_id, attached.name)

    def _forget(self, missing: list[Network]) -> list[Network]:
        """Delete, and return, what dockerd does not know: it removed it while nobody listened, or died over it.

        Only what it once knew, or, after a while, what it asked for itself: another dockerd may use this plugin, too.
        """
        now = self._clock()
        self._unknown = {network.id: self._unknown.get(network.id, now) for network in missing}
        forgotten = []
        for network in missing:
            waited = now - self._unknown[network.id] >= _FORGOTTEN_SECONDS
            if is_named(network) or (waited and self._is_dockerds(network.id)):
                log.warning("network %s was forgotten by dockerd: removed", network.name)
                self._dockerd.delete_network(network.id)
                forgotten.append(network)
        return forgotten

    def _release(self, known: list[NetworkRecord], freed: set[str]) -> None:
        """Pools that none of dockerd's networks is from: those it asked for itself, and the subnets that are freed."""
        for name, leases in self._leases.items():
            used = {
                config.subnet
                for record in known
                if record.ipam is not None and record.ipam.driver == name
                for config in record.ipam.config or ()
            }
            for pool in leases.settled_pools():
                if pool.subnet not in used and (pool.subnet in freed or self._is_dockerds(pool.id)):
                    log.warning("pool %s was forgotten by dockerd: released", pool.subnet)
                    leases.release_pool(pool.pool_id)


def is_named(network: Network) -> bool:
    """Whether dockerd was once asked for the network's name, and knew it."""
    return network.name != f"docker-{network.id[:SHORT]}"


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
