"""Which member of etcd is asked: one at random, until it fails."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Sequence
from typing import Any

import grpc

from cnm.cluster.etcd.channel import Connection, Credentials
from cnm.cluster.etcd.contract import EtcdError
from cnm.cluster.etcd.messages import STATUS
from cnm.errors import InvalidParameter

_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\[\]/:]+):[0-9]+")
_PROBE_SECONDS = 5.0
"""How long the answer to a probe is of interest."""
_LEAVING_SECONDS = 2.0
"""What is under way with a member that is none any more has that long to end."""


class Members:
    """The members that are known, and connections to those that were asked. Thread-safe.

    gRPC itself would stay with a member that hangs for as long as its machine keeps the connection.
    """

    def __init__(self, endpoints: Sequence[str], credentials: Credentials) -> None:
        credentials.check()
        self._credentials = credentials
        self._lock = threading.Lock()
        self._order: list[str] = []
        self._at = 0
        self._open: dict[str, Connection] = {}
        self.leaving: list[Connection] = []
        """To members that are none any more, or by a certificate that is not ours any more; they are closed soon."""
        self._probes: dict[Connection, Any] = {}
        self._closed = False
        self.replace(endpoints)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def endpoints(self) -> list[str]:
        return list(self._order)

    def current(self) -> Connection:
        """The one to ask. Raises EtcdError when closed."""
        with self._lock:
            return self._connection_locked(self._at)

    def connect(self, endpoint: str) -> Connection:
        """One that the caller closes, to whichever endpoint."""
        return Connection(endpoint, self._credentials)

    def after(self, connection: Connection) -> Connection:
        """The one to ask when this one fails."""
        with self._lock:
            return self._connection_locked(self._index_locked(connection) + 1)

    def move_on(self, connection: Connection) -> None:
        """Ask the next one from now on, unless somebody else moved on already."""
        with self._lock:
            if self._index_locked(connection) == self._at:
                self._at = (self._at + 1) % len(self._order)

    def give_up(self, connection: Connection) -> None:
        """Move on, and end everything that is under way there: it would never end by itself."""
        self.move_on(connection)
        with self._lock:
            if self._open.get(connection.endpoint) is connection:
                del self._open[connection.endpoint]
            self._probes.pop(connection, None)
        connection.close()

    def answered(self, connection: Connection) -> None:
        if connection.late:
            connection.late = 0
            with self._lock:
                self._probes.pop(connection, None)

    def late(self, connection: Connection) -> None:
        """A call was not answered in time. At the second one in a row the member is given up, if it is silent.

        A member that answers a probe meanwhile is alive: it is the majority that is missing, or slow, and moving all
        hosts' watches about would not make it faster.
        """
        connection.late += 1
        with self._lock:
            probe = self._probes.pop(connection, None)
            silent = probe is not None and _is_silent(probe)
            if not silent and not self._closed:
                self._probes[connection] = _probe(connection)
        if connection.late > 1 and silent:
            self.give_up(connection)

    def replace(self, endpoints: Sequence[str]) -> None:
        """Other members from now on. Raises InvalidParameter where there is none."""
        wanted = list(dict.fromkeys(endpoints))
        if not wanted or not all(_ENDPOINT.fullmatch(each) for each in wanted):
            raise InvalidParameter(
                f"members of etcd are HOST:PORT each, at least one: {', '.join(wanted) or 'none'}"
            )
        random.shuffle(wanted)
        with self._lock:
            present = self._order[self._at] if self._order else ""
            self._order = wanted
            self._at = wanted.index(present) if present in wanted else 0
            gone = [self._open.pop(each) for each in list(self._open) if each not in wanted]
            self.leaving += gone
        self._close_later(gone)

    def identify(self, ca: bytes, cert: bytes, key: bytes) -> None:
        """Another certificate from now on. Raises InvalidParameter for what is no PEM."""
        credentials = Credentials(ca, cert, key, self._credentials.server_name)
        credentials.check()
        with self._lock:
            self._credentials = credentials
            gone = list(self._open.values())
            self._open.clear()
            self.leaving += gone
        self._close_later(gone)

    def _close_later(self, gone: list[Connection]) -> None:
        if gone:
            timer = threading.Timer(_LEAVING_SECONDS, self._close_leaving, (gone,))
            timer.daemon = True
            timer.start()

    def _close_leaving(self, gone: list[Connection]) -> None:
        with self._lock:
            self.leaving = [each for each in self.leaving if each not in gone]
            for connection in gone:
                self._probes.pop(connection, None)
        for connection in gone:
            connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = [*self._open.values(), *self.leaving]
            self._open.clear()
            self._probes.clear()
        for connection in connections:
            connection.close()

    def _connection_locked(self, index: int) -> Connection:
        if self._closed:
            raise EtcdError("the connection to etcd was closed")
        endpoint = self._order[index % len(self._order)]
        if endpoint not in self._open:
            self._open[endpoint] = Connection(endpoint, self._credentials)
        return self._open[endpoint]

    def _index_locked(self, connection: Connection) -> int:
        """Where it stands; where we are, if it is no member any more, since it then has no next one."""
        try:
            return self._order.index(connection.endpoint)
        except ValueError:
            return self._at - 1


def _probe(connection: Connection) -> Any:
    """Ask for what a member knows by itself."""
    try:
        return connection.begin(STATUS, STATUS.request(), _PROBE_SECONDS, leader=False)
    except ValueError:  # closed meanwhile
        return None


def _is_silent(probe: Any) -> bool:
    return not probe.done() or probe.code() in (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
    )
