"""Finds a sidecar that runs, starts one where none does, and puts another in the place of one that died."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from cnm.errors import CnmError, KernelError, Unavailable
from cnm.sidecar import control_socket
from cnm.sidecar.client import Client, Lost
from cnm.sidecar.packets import namespace_identity
from cnm.sidecar.process import start_process

log = logging.getLogger("cnm.sidecar")

ANSWER_SECONDS = 3.0
"""For one answer; the first one includes the start of the process, some 50 ms."""
_ATTEMPTS = 3
"""At a connection: the first sidecar that answers may be ending, or not be one for us."""
_QUICK_DEATH_SECONDS = 10.0
"""After a shorter life the next start waits longer, from the first to the second of:"""
_PAUSES = (0.1, 10.0)

C = TypeVar("C", bound=Client)


class Sort(NamedTuple):
    """Which sidecar: `module` is what its process runs, `kind` what it is called, `version` the protocol's."""

    kind: str
    module: str
    version: int


class Keeper(Generic[C]):
    """Of one sidecar of this daemon. Whoever uses `client` or calls `attach` and `end` holds `lock`.

    `introduce` is called with each new client before it counts as connected, and may raise Lost; `resume` is called,
    with the lock, when the process was lost while `needed` says that something is to be served.
    """

    def __init__(
        self,
        sort: Sort,
        path: str,
        connect: Callable[[socket.socket], C],
        *,
        introduce: Callable[[C], None],
        needed: Callable[[], bool],
        resume: Callable[[], None],
    ) -> None:
        """`path` is the control socket's. The daemon's own network namespace is the calling thread's."""
        self.lock = threading.Lock()
        self.client: C | None = None
        self._sort = sort
        self._path = path
        self._connect = connect
        self._introduce, self._needed, self._resume = introduce, needed, resume
        self._home = namespace_identity()
        self._watchers: list[threading.Thread] = []
        self._closing = threading.Event()
        self._pause = 0.0

    @property
    def pid(self) -> int:
        """Of the process, 0 where none is connected."""
        client = self.client
        return client.pid if client else 0

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    def attach(self, *, spawn: bool) -> C | None:
        """Connect to the process, start one where `spawn` says so; None where there is none. Raises Unavailable."""
        deadline = time.monotonic() + ANSWER_SECONDS
        why: Lost | None = None
        for _ in range(_ATTEMPTS):
            if time.monotonic() > deadline:
                break
            channel = control_socket.connect(self._path, ANSWER_SECONDS)
            if channel is None:
                if not spawn:
                    return None
                channel = self._spawn()
            try:
                if (client := self._greet(channel)) is not None:
                    return client
            except Lost as error:
                why = error
        raise Unavailable(f"{self._path}: {why or f'no {self._sort.kind} of this version comes up'}")

    def lose(self) -> None:
        """The client raised Lost: the next `attach` is to find another."""
        self.client = None

    def end(self) -> None:
        """End the process, and with it everything that it serves. Raises Unavailable when it does not end."""
        client = self.client or self.attach(spawn=False)
        if client is None:
            return
        with contextlib.suppress(Lost):  # what counts is whether it is gone
            client.end()
        if not client.wait_for_end(ANSWER_SECONDS):
            raise Unavailable(f"{self._sort.kind} {client.pid} does not end: kill it")

    def stop_watching(self) -> None:
        """From now on nothing is started; the process serves on. `lock` is not held."""
        self._closing.set()

    def close(self) -> None:
        """Hang up; the process serves on, and the next daemon takes it up. `lock` is not held."""
        self._closing.set()
        with self.lock:
            if self.client is not None:
                self.client.hang_up()
        for watcher in self._watchers:
            watcher.join()

    def _greet(self, channel: socket.socket) -> C | None:
        """Take the process at the other end if it is one for us, else end it. Raises Lost."""
        client = self._connect(channel)
        try:
            if (client.greeting.version, client.greeting.namespace) == (self._sort.version, self._home):
                self._introduce(client)
                self.client = client
                self._watch_in_thread(client)
                return client
            log.warning(
                "%s %d is of another version or network namespace: it is replaced",
                self._sort.kind,
                client.pid,
            )
            client.end()
            client.wait_for_end(ANSWER_SECONDS)
        finally:
            if self.client is not client:
                client.close()
        return None

    def _spawn(self) -> socket.socket:
        """Start a process in a session of its own; returns a connection that it will find."""
        kind = self._sort.kind
        if namespace_identity() != self._home:
            raise KernelError(
                f"the {kind} is not started: this thread is not in the daemon's network namespace"
            )
        try:
            listener = control_socket.listen(self._path)
        except CnmError as error:
            raise Unavailable(f"the {kind} cannot be started: {error}") from None
        with listener:
            try:
                pid = start_process(self._sort.module, listener)
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise Unavailable(f"the {kind} cannot be started: {why}") from None
            log.info("%s %d started", kind, pid)
            channel = control_socket.connect(self._path, ANSWER_SECONDS)
        assert channel is not None
        return channel

    # In a thread for each connection

    def _watch_in_thread(self, client: C) -> None:
        self._watchers = [watcher for watcher in self._watchers if watcher.is_alive()]
        watcher = threading.Thread(target=self._watch, args=(client,), name=self._sort.kind, daemon=True)
        self._watchers.append(watcher)
        watcher.start()

    def _watch(self, client: C) -> None:
        """When the connection is gone, put another in its place as long as anything is wanted."""
        client.wait_for_hang_up()
        ended = not self._closing.is_set() and client.wait_for_end(1.0)
        with self.lock:
            if self.client is client:
                self.client = None
            client.close()
            if self._closing.is_set() or not self._needed():
                return
        what = "has died" if ended else "has hung up"
        log.error("%s %d %s: another is started", self._sort.kind, client.pid, what)
        self._recover(time.monotonic() - client.since)

    def _recover(self, lifetime: float) -> None:
        shortest, longest = _PAUSES
        if lifetime > _QUICK_DEATH_SECONDS:
            self._pause = 0.0
        while not self._closing.wait(self._pause):
            self._pause = min(max(2 * self._pause, shortest), longest)
            try:
                with self.lock:
                    if self._needed() and not self._closing.is_set():
                        self._resume()
                return
            except CnmError as error:
                log.error("%s", error)
