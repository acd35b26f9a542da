"""cnmd's side of the resolver: started when it is first needed, kept alive, told what changes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cnm.errors import CnmError
from cnm.resolver.client import Client, Told
from cnm.resolver.messages import VERSION, Message, Verb, control_path, default_workers
from cnm.sidecar.client import Lost
from cnm.sidecar.keeper import Keeper, Sort

log = logging.getLogger("cnm.resolvers")

Held = dict[str, dict[str, socket.socket]]
"""Sockets by their names, by scope."""


class Source(Protocol):
    """Who knows what is to be served, and holds `lock` while that changes and is told."""

    lock: threading.Lock

    def snapshot(self) -> Sequence[Told]:
        """All of it, from BEGIN to COMMIT. Called with `lock`."""

    def needed(self) -> bool:
        """Whether anything is to be served."""


class _Nothing:
    lock = threading.Lock()

    def snapshot(self) -> Sequence[Told]:
        return ()

    def needed(self) -> bool:
        return False


class Resolver:
    """Of one daemon; `source` is asked for everything whenever another process is to be told."""

    def __init__(self, run_dir: str) -> None:
        self.source: Source = _Nothing()
        self._held: Held = {}
        self._keeper: Keeper[Client] = Keeper(
            Sort("resolver", "cnm.resolver", VERSION),
            control_path(run_dir),
            Client,
            introduce=self._list,
            needed=lambda: self.source.needed(),
            resume=self._begin,
        )
        self._told: Client | None = None
        """Who has been told everything; changes are told to nobody else."""
        self._beginning: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """Of the first process, 0 where none is connected."""
        return self._keeper.pid

    @property
    def workers(self) -> int:
        """How many processes serve, or will: each has sockets of its own to ask from."""
        client = self._keeper.client
        return client.workers if client else default_workers()

    def is_told(self) -> bool:
        """Whether a resolver is connected that has been told everything."""
        return self._told is not None and self._told is self._keeper.client

    def adopt(self) -> Held:
        """Take up the resolver that an earlier daemon left running; none is no error, and none is started.

        Returns its sockets, which the caller owns. It serves on as it was told until it is told otherwise.
        """
        with self._keeper.lock:
            try:
                self._keeper.attach(spawn=False)
            except CnmError as error:
                log.error("%s: what it serves is not taken up", error)
            held, self._held = self._held, {}
        return held

    def release(self, scopes: Sequence[str]) -> None:
        """Have the adopted resolver close the sockets of these; where it is lost, they are closed anyway."""
        with self._keeper.lock:
            if self._keeper.client is not None:
                self._say(self._keeper.client, [Told(Message(Verb.UNSCOPE, scope)) for scope in scopes])

    def tell(self, told: Sequence[Told]) -> None:
        """Returns when all workers have heard it. Where no resolver is there, one is started behind the answer, and
        told everything. What is refused is logged: nobody can do anything about it. The caller holds `source.lock`.
        """
        client = self._told
        if client is None or not self.is_told():
            self._begin()
            return
        with self._keeper.lock:
            self._say(client, told)

    def stats(self) -> Mapping[str, Any]:
        """Its counters; none where no resolver is connected."""
        with self._keeper.lock:
            client = self._keeper.client
            if client is None:
                return {}
            try:
                return client.stats()
            except Lost as error:
                log.error("%s: it is started anew", error)
                self._keeper.lose()
                return {}

    def close(self) -> None:
        """Leave it serving; the next daemon takes it up. `source.lock` is not held."""
        self._keeper.stop_watching()
        if self._beginning is not None:
            self._beginning.join()
        self._keeper.close()

    def stop(self) -> None:
        """End it. Raises Unavailable when it does not end. `source.lock` is not held."""
        self._keeper.stop_watching()
        try:
            with self._keeper.lock:
                self._keeper.end()
        finally:
            self.close()

    def _begin(self) -> None:
        if (self._beginning is None or not self._beginning.is_alive()) and not self._keeper.closing:
            self._beginning = threading.Thread(target=self._connect, name="resolver start", daemon=True)
            self._beginning.start()

    def _connect(self) -> None:
        """In a thread: starting a process takes its time, which no verb waits for."""
        try:
            with self._keeper.lock:
                client = self._keeper.client or self._keeper.attach(spawn=True)
                for sockets in self._held.values():
                    for each in sockets.values():
                        each.close()
                self._held = {}
            with self.source.lock, self._keeper.lock:
                if client is not None and client is self._keeper.client:
                    self._say(client, self.source.snapshot())
                    self._told = client
        except CnmError as error:
            log.error("%s: names are not answered until something changes", error)

    def _say(self, client: Client, told: Sequence[Told]) -> None:
        try:
            for error in client.tell(told):
                log.error("the resolver refuses: %s", error)
        except Lost as error:
            log.error("%s: it is started anew", error)
            self._keeper.lose()

    def _list(self, client: Client) -> None:
        self._held = client.list()
