"""cnmd's side of the relay: starts it when it is first needed, keeps it alive, tells it what to serve."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cnm.errors import CnmError, InvalidParameter, KernelError, Unavailable
from cnm.relay import control_socket
from cnm.relay.client import Client, Front, Lost
from cnm.relay.messages import VERSION, namespace_identity
from cnm.relay.process import start_process

log = logging.getLogger("cnm.relays")

_ANSWER_TIME = 3.0
"""Seconds that one answer may take; the first one includes the start of the process, some 50 ms."""
_ATTEMPTS = 3
"""At a connection: the first relay that answers may be ending, or not be one for us."""
_QUICK_DEATH = 10.0
"""Seconds: after a shorter life the next start waits longer, from the first to the second of:"""
_PAUSES = (0.1, 10.0)

Target = tuple[str, int]
"""Bare address text and port, reachable from the daemon's namespace."""


class Relay(NamedTuple):
    """What is to be relayed: protocol "tcp" or "udp", the descriptor of a bound socket, and where its traffic goes."""

    protocol: str
    descriptor: int
    target: Target


class Relays:
    """The relays of one daemon, by ids of its choice. Thread-safe.

    Descriptors are duplicated: the caller keeps his own. A relay process that dies is started again at once and told
    everything; what arrives meanwhile waits in the sockets. Its connections are lost then; a restart of the daemon
    costs none.
    """

    def __init__(self, run_dir: str) -> None:
        """The daemon's own network namespace is the calling thread's."""
        self._run_dir = run_dir
        self._home = namespace_identity()
        self._lock = threading.Lock()
        self._wanted: dict[str, Front] = {}
        self._settled = False
        """What the relay serves beside `_wanted` may be dropped."""
        self._client: Client | None = None
        self._watchers: list[threading.Thread] = []
        self._closing = threading.Event()
        self._pause = 0.0

    @property
    def pid(self) -> int:
        """Of the relay process, 0 where none is connected."""
        client = self._client
        return client.pid if client else 0

    def start(self) -> dict[str, socket.socket]:
        """Take up the relay that an earlier daemon left running; none is no error, and none is started.

        Returns the sockets that it serves, by id; the caller owns them. A daemon that was not given its sockets back
        otherwise must take these: their ports are in use. They are served on; `reconcile` decides about them.
        """
        with self._lock:
            try:
                held = self._attach(spawn=False)
            except Unavailable as error:
                log.error("%s: what it serves is not taken up", error)
                held = {}
            self._settled = not held
            return {ident: front.socket for ident, front in held.items()}

    def update(self, serve: Mapping[str, Relay], drop: Iterable[str] = ()) -> None:
        """Drop some: their connections are reset, nobody is let in any more; ids that are not served are fine.

        Serve others, in place of what their ids stood for. Raises InvalidParameter, changing nothing; Unavailable for
        the first that failed, when all were tried.
        """
        fronts = _duplicates(serve)
        with self._lock:
            going = list(drop)
            for ident in (*going, *fronts):
                self._discard(ident)
            self._drop(going)
            self._wanted.update(fronts)
            if fronts:
                self._settle(list(fronts))

    def reconcile(self, wanted: Mapping[str, Relay]) -> None:
        """Serve exactly `wanted`; where that is so already, connections go on. Raises as `update` does."""
        fronts = _duplicates(wanted)
        with self._lock:
            _close_all(self._wanted)
            self._wanted = fronts
            self._settled = True
            if fronts or self._client is not None:
                self._settle(list(fronts))
            if not fronts and self._client is not None:
                self._client.hang_up()  # it ends, having nothing to do

    def close(self) -> None:
        """Leave the relay serving; the next daemon takes it up. One that serves nothing ends by itself."""
        self._closing.set()
        with self._lock:
            _close_all(self._wanted)
            self._wanted = {}
            if self._client is not None:
                self._client.hang_up()
        for watcher in self._watchers:
            watcher.join()

    def stop(self) -> None:
        """End the relay, and with it everything that it serves. Raises Unavailable when it does not end."""
        self._closing.set()
        try:
            with self._lock:
                self._end()
        finally:
            self.close()

    # Under the lock

    def _drop(self, idents: Iterable[str]) -> None:
        client = self._client
        served = [ident for ident in idents if ident in client.served] if client is not None else []
        if client is not None and served:
            try:
                client.drop(served)
            except Lost as error:
                log.warning(
                    "relay of %s: %s", ", ".join(served), error
                )  # and the next one will not hear of it

    def _discard(self, ident: str) -> None:
        front = self._wanted.pop(ident, None)
        if front is not None:
            front.socket.close()

    def _settle(self, asked: Sequence[str]) -> None:
        """Make the relay serve what is wanted. Raises Unavailable for the first of `asked` that it does not."""
        try:
            errors = self._agree(asked)
        except Lost:
            self._client = None
            errors = self._agree(asked)
        for ident in asked:
            if ident in errors:
                raise Unavailable(
                    f"relay of {ident} to {_text(self._wanted[ident].target)}: {errors.pop(ident)}"
                )
        for ident, error in errors.items():
            log.error("relay of %s to %s: %s", ident, _text(self._wanted[ident].target), error)

    def _agree(self, asked: Iterable[str]) -> dict[str, str]:
        """Have the relay serve `asked`, one that was not connected yet everything; returns the errors by id."""
        if self._client is None:
            _close_all(self._attach(spawn=True))
            asked = self._wanted
        client = self._client
        assert client is not None
        if self._settled and (unwanted := client.served.keys() - self._wanted):
            client.drop(unwanted)
        fronts = {ident: self._wanted[ident] for ident in asked}
        return client.serve(
            {ident: front for ident, front in fronts.items() if not client.serves(ident, front)}
        )

    def _attach(self, *, spawn: bool) -> dict[str, Front]:
        """Connect to the relay, start one where `spawn` says so; returns what it serves. Raises Unavailable."""
        deadline = time.monotonic() + _ANSWER_TIME
        why: Lost | None = None
        for _ in range(_ATTEMPTS):
            if time.monotonic() > deadline:
                break
            channel = control_socket.connect(self._run_dir, _ANSWER_TIME)
            if channel is None:
                if not spawn:
                    return {}
                channel = self._spawn()
            try:
                if (held := self._greet(channel)) is not None:
                    return held
            except Lost as error:
                why = error
        raise Unavailable(
            f"{control_socket.path(self._run_dir)}: {why or 'no relay of this version comes up'}"
        )

    def _greet(self, channel: socket.socket) -> dict[str, Front] | None:
        """Take the relay at the other end if it is one for us, else end it; returns what it serves. Raises Lost."""
        client = Client(channel)
        try:
            if (client.version, client.namespace) == (VERSION, self._home):
                held = client.list()
                self._client = client
                self._watchers = [watcher for watcher in self._watchers if watcher.is_alive()]
                self._watchers.append(
                    threading.Thread(target=self._watch, args=(client,), name="relay", daemon=True)
                )
                self._watchers[-1].start()
                return held
            log.warning("relay %d is of another version or network namespace: it is replaced", client.pid)
            client.end()
            client.wait_for_end(_ANSWER_TIME)
        finally:
            if self._client is not client:
                client.close()
        return None

    def _spawn(self) -> socket.socket:
        """Start a relay process in a session of its own; returns a connection that it will find."""
        if namespace_identity() != self._home:
            raise KernelError(
                "the relay is not started: this thread is not in the daemon's network namespace"
            )
        try:
            listener = control_socket.listen(self._run_dir)
        except CnmError as error:
            raise Unavailable(f"the relay cannot be started: {error}") from None
        with listener:
            try:
                pid = start_process(listener)
            except OSError as error:
                raise Unavailable(
                    f"the relay cannot be started: {(error.strerror or str(error)).lower()}"
                ) from None
            log.info("relay %d started", pid)
            channel = control_socket.connect(self._run_dir, _ANSWER_TIME)
        assert channel is not None
        return channel

    def _end(self) -> None:
        if self._client is None:
            _close_all(self._attach(spawn=False))
        if self._client is None:
            return
        with contextlib.suppress(Lost):  # what counts is whether it is gone
            self._client.end()
        if not self._client.wait_for_end(_ANSWER_TIME):
            raise Unavailable(f"relay {self._client.pid} does not end: kill it")

    # In a thread for each connection

    def _watch(self, client: Client) -> None:
        """When the connection is gone, put another in its place as long as anything is wanted."""
        client.wait_for_hang_up()
        ended = not self._closing.is_set() and client.wait_for_end(1.0)
        with self._lock:
            if self._client is client:
                self._client = None
            client.close()
            if self._closing.is_set() or not self._wanted:
                return
        log.error("relay %d %s: another is started", client.pid, "has died" if ended else "has hung up")
        self._recover(time.monotonic() - client.since)

    def _recover(self, lifetime: float) -> None:
        shortest, longest = _PAUSES
        if lifetime > _QUICK_DEATH:
            self._pause = 0.0
        while not self._closing.wait(self._pause):
            self._pause = min(max(2 * self._pause, shortest), longest)
            try:
                with self._lock:
                    if self._wanted and not self._closing.is_set():
                        self._settle([])
                return
            except CnmError as error:
                log.error("%s", error)


def _duplicates(relays: Mapping[str, Relay]) -> dict[str, Front]:
    fronts: dict[str, Front] = {}
    try:
        for ident, relay in relays.items():
            fronts[ident] = _duplicate(ident, relay)
    except BaseException:
        _close_all(fronts)
        raise
    return fronts


def _duplicate(ident: str, relay: Relay) -> Front:
    if relay.protocol not in ("tcp", "udp"):
        raise InvalidParameter(
            f"relay of {ident}: protocol {relay.protocol} cannot be relayed, only tcp and udp can"
        )
    try:
        return Front(relay.protocol, socket.socket(fileno=os.dup(relay.descriptor)), relay.target)
    except OSError as error:
        raise KernelError(
            f"relay of {ident}: {(error.strerror or str(error)).lower()}", error.errno or 0
        ) from None


def _close_all(fronts: Mapping[str, Front]) -> None:
    for front in fronts.values():
        front.socket.close()


def _text(target: Target) -> str:
    return f"{target[0]} port {target[1]}"
