"""cnmd's side of the relay: starts it when it is first needed, keeps it alive, tells it what to serve."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cnm.errors import InvalidParameter, KernelError, Unavailable
from cnm.relay.client import Client, Front
from cnm.relay.messages import VERSION, control_path
from cnm.sidecar.client import Lost
from cnm.sidecar.keeper import Keeper, Sort

log = logging.getLogger("cnm.relays")

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
        self._wanted: dict[str, Front] = {}
        self._held: dict[str, Front] = {}
        """What the relay served when it was connected last; taken over, or closed."""
        self._settled = False
        """What the relay serves beside `_wanted` may be dropped."""
        self._keeper: Keeper[Client] = Keeper(
            Sort("relay", "cnm.relay", VERSION),
            control_path(run_dir),
            Client,
            introduce=self._list,
            needed=lambda: bool(self._wanted),
            resume=lambda: self._settle([]),
        )
        self._lock = self._keeper.lock

    @property
    def pid(self) -> int:
        """Of the relay process, 0 where none is connected."""
        return self._keeper.pid

    def start(self) -> dict[str, socket.socket]:
        """Take up the relay that an earlier daemon left running; none is no error, and none is started.

        Returns the sockets that it serves, by id; the caller owns them. A daemon that was not given its sockets back
        otherwise must take these: their ports are in use. They are served on; `reconcile` decides about them.
        """
        with self._lock:
            try:
                self._keeper.attach(spawn=False)
                held = self._take_held()
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
            if fronts or self._keeper.client is not None:
                self._settle(list(fronts))
            if not fronts and self._keeper.client is not None:
                self._keeper.client.hang_up()  # it ends, having nothing to do

    def close(self) -> None:
        """Leave the relay serving; the next daemon takes it up. One that serves nothing ends by itself."""
        self._keeper.stop_watching()
        with self._lock:
            _close_all(self._wanted)
            self._wanted = {}
        self._keeper.close()

    def stop(self) -> None:
        """End the relay, and with it everything that it serves. Raises Unavailable when it does not end."""
        self._keeper.stop_watching()
        try:
            with self._lock:
                self._keeper.end()
                _close_all(self._take_held())
        finally:
            self.close()

    # Under the lock

    def _drop(self, idents: Iterable[str]) -> None:
        client = self._keeper.client
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
            self._keeper.lose()
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
        client = self._keeper.client
        if client is None:
            client = self._keeper.attach(spawn=True)
            _close_all(self._take_held())
            asked = self._wanted
        assert client is not None
        if self._settled and (unwanted := client.served.keys() - self._wanted):
            client.drop(unwanted)
        fronts = {ident: self._wanted[ident] for ident in asked}
        return client.serve(
            {ident: front for ident, front in fronts.items() if not client.serves(ident, front)}
        )

    def _list(self, client: Client) -> None:
        _close_all(self._held)
        self._held = client.list()

    def _take_held(self) -> dict[str, Front]:
        held, self._held = self._held, {}
        return held


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
