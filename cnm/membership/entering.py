"""Brings what happens to this host's membership to the controller: its networks of the cluster come and go with it."""

from __future__ import annotations

import logging
import threading

from cnm.cluster.etcd.contract import Denied, EtcdError
from cnm.cluster.records import TooNew
from cnm.controller import Controller
from cnm.membership.membership import InCluster

log = logging.getLogger("cnm.cluster")

_PAUSE_SECONDS = 1.0


class Entering:
    """`changed` is for `Membership.on_change`; thread-safe."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._thread: threading.Thread | None = None

    def changed(self, what: InCluster | None) -> None:
        """A daemon that starts while the cluster is away goes on trying; nothing else here waits for it."""
        with self._lock:
            self._stop()
            if what is None:
                self._controller.pause_cluster()
            elif not self._enter(what):
                self._given_up = threading.Event()
                self._thread = threading.Thread(target=self._try, args=(what,), name="entering", daemon=True)
                self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        self._given_up.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _try(self, what: InCluster) -> None:
        while not self._given_up.wait(_PAUSE_SECONDS):
            if self._enter(what):
                return

    def _enter(self, what: InCluster) -> bool:
        """Whether there is no more to try."""
        try:
            self._controller.enter_cluster(what.etcd, what.name, what.advertise, member=what.member)
        except (EtcdError, Denied) as error:
            log.warning("networks of the cluster are not known yet: %s", error)
            return False
        except TooNew as error:
            log.error("this host takes no part in its cluster: %s", error)
        return True
