"""cnmd's side of the relay: starts it when it is first needed, keeps it alive, tells it what to serve."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import NamedTuple

from cnm.relay.messages import namespace_identity

log = logging.getLogger("cnm.relays")

_ANSWER_TIME = 5.0
"""Seconds that one answer may take; the first one includes the start of the process, some 50 ms."""
_QUICK_DEATH = 10.0
"""Seconds: a relay that lived for less is started again after a pause that grows from the first to the last of these:"""
_PAUSES = (0.1, 10.0)
_SO_COOKIE = 57
"""<asm-generic/socket.h>: tells one socket from every other."""

Target = tuple[str, int]
"""Bare address text and port, reachable from the daemon's namespace."""


class Relay(NamedTuple):
    """What is to be relayed: protocol "tcp" or "udp", the descriptor of a bound socket, and where its traffic goes."""

    protocol: str
    descriptor: int
    target: Target


class Relays:
    """The relays of one daemon, by ids of its choice. Thread-safe.

    Sockets are duplicated: the caller keeps his own. A relay process that dies is started again at once and told
    everything; what arrives meanwhile waits in the sockets. Connections through it are lost then, but not by a restart
    of the daemon.
    """

    def __init__(self, run_dir: str) -> None:
        """The daemon's own namespace is the calling thread's."""
        self._run_dir = run_dir
        self._home = namespace_identity()
        self._lock = threading.Lock()
        self._wanted: dict[str, Relay] = {}
        self._session: _Session | None = None
        self._closing = threading.Event()
        self._pause = _PAUSES[0]

    def start(self) -> dict[str, socket.socket]:
        """Take up a relay that an earlier daemon left running; none is no error.

        Returns the sockets that it serves, by id; they are the caller's now. The relay keeps them reserved, so a daemon
        that has lost its own must take these up again before it binds anything. It serves on until `reconcile`.
        """
        with self._lock:
            held = self._adopt()
            return {ident: relay.socket for ident, relay in held.items()}

    @property
    def pid(self) -> int:
        """Of the relay process that is connected, 0 where none is."""
        session = self._session
        return session.pid if session else 0

    def serve(self, ident: str, protocol: str, descriptor: int, target: Target) -> None:
        """Carry what arrives at a bound socket to `target`; in place of what `ident` stood for.

        Raises InvalidParameter for another protocol than tcp and udp, Unavailable when the relay cannot do it.
        """
        relay = _duplicate(ident, Relay(protocol, descriptor, target))
        with self._lock:
            self._forget(ident)
            try:
                self._connected().serve({ident: relay})
            except BaseException:
                os.close(relay.descriptor)
                raise
            self._wanted[ident] = relay

    def drop(self, ident: str) -> None:
        """Reset its connections and let nobody in; an id that is not served is fine."""
        with self._lock:
            known = ident in self._wanted
            self._forget(ident)
            if known and self._session is not None:
                with contextlib.suppress(
                    _Lost
                ):  # then it serves nothing, and its successor will not hear of it
                    self._session.drop([ident])

    def reconcile(self, wanted: Mapping[str, Relay]) -> None:
        """Serve exactly `wanted`; connections of what is served already go on.

        Raises InvalidParameter, or Unavailable naming the first that failed, after everything was tried.
        """
        relays = {ident: _duplicate(ident, relay) for ident, relay in wanted.items()}
        with self._lock:
            for ident in list(self._wanted):
                self._forget(ident)
            self._wanted = relays
            session = self._connected() if relays else self._session
