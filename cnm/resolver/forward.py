"""Queries that others answer: the sandbox's own servers, or the host's, one after the other until one does.

A server that is silent for a second is not waited for alone: the next one is asked as well, and the first good answer
counts. That is quicker than Docker, which waits four seconds for each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from cnm.resolver import wire
from cnm.resolver.answers import Forward
from cnm.resolver.asking import Asked, Asking, Inside
from cnm.resolver.cache import Cache
from cnm.resolver.host_servers import MOST_SERVERS, HostServers
from cnm.resolver.records import Server
from cnm.resolver.state import State
from cnm.resolver.stats import Stats
from cnm.sidecar.loop import Loop

log = logging.getLogger("cnm.resolver")

_MOST_FLIGHTS = 1024
"""Queries that are forwarded at the same time, by one worker; further ones are refused."""
_NEXT_SECONDS = 1.0
"""After which the next server is asked as well."""
_SERVER_SECONDS = 4.0
"""For which an answer of a server is waited for."""
_COMPLAIN_SECONDS = 10.0
_BAD = frozenset({2, 5})
"""SERVFAIL and REFUSED: another server may know better."""

Reply = Callable[[bytes], None]


class _Waiter(NamedTuple):
    scope: str
    query: bytes
    forward: Forward
    reply: Reply


class Forwarder:
    """Of one worker."""

    def __init__(self, loop: Loop, state: State, stats: Stats) -> None:
        self._loop = loop
        self._state = state
        self._stats = stats
        self._asking = Asking(loop)
        self._inside: dict[str, Inside] = {}
        """By scope, where it asks servers of its own."""
        self._host_servers = HostServers(loop.clock)
        self._cache = Cache(loop.clock)
        self._flights: dict[tuple[str, bool, bytes], _Flight] = {}
        self._complained = float("-inf")

    def ask(self, scope: str, query: bytes, forward: Forward, tcp: bool, reply: Reply) -> None:
        """`reply` gets the answer to `query`, whatever becomes of it; its length is not limited."""
        servers, where = self._servers(scope)
        if not servers:
            reply(wire.failure(query, wire.SERVFAIL))
            return
        if self._state.settings.cache and (known := self._cache.get(where, forward.asked)):
            self._stats.cached += 1
            reply(forward.finished(query, known))
            return
        key = (where, tcp, forward.query[2:])
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= _MOST_FLIGHTS:
                self._complain()
                reply(wire.failure(query, wire.REFUSED))
                return
            self._stats.forwarded += 1
            flight = self._flights[key] = _Flight(self, key, forward.query, servers, self._inside_of(scope))
            flight.waiters.append(_Waiter(scope, query, forward, reply))
            flight.begin(self._loop)
        else:
            flight.waiters.append(_Waiter(scope, query, forward, reply))

    def forget(self, scope: str) -> None:
        """Its sockets are about to be closed: whoever waits gets no answer."""
        for flight in [f for f in self._flights.values() if f.key[0] == scope]:
            flight.waiters.clear()
            flight.end()
        for flight in self._flights.values():
            flight.waiters = [waiter for waiter in flight.waiters if waiter.scope != scope]
        self._cache.forget(scope)
        if inside := self._inside.pop(scope, None):
            inside.close()

    def ended(self, flight: _Flight, answer: bytes | None) -> None:
        """None where no server has answered."""
        where, _tcp, _query = flight.key
        del self._flights[flight.key]
        if answer is not None and flight.waiters and self._state.settings.cache:
            self._cache.put(where, flight.waiters[0].forward.asked, answer)
        for waiter in flight.waiters:
            if answer is None:
                waiter.reply(wire.failure(waiter.query, wire.SERVFAIL))
            else:
                waiter.reply(waiter.forward.finished(waiter.query, answer))

    def asked(self, flight: _Flight, server: Server) -> Asked:
        """Ask a server; raises OSError."""
        _where, tcp, _query = flight.key
        return self._asking.ask(server, flight.query, tcp, flight.inside, flight)

    def _servers(self, scope: str) -> tuple[Sequence[Server], str]:
        """(whom to ask, whose answers those are in the cache)."""
        known = self._state.book.scope(scope)
        mine = self._state.settings.not_servers
        if known.servers:
            own = [server for server in known.servers if server.address not in mine]
            return own[:MOST_SERVERS], scope
        if not known.external:
            return (), scope
        return self._host_servers.get(self._state.settings.resolv_conf, mine), ""

    def _inside_of(self, scope: str) -> Inside:
        if scope not in self._inside:
            self._inside[scope] = Inside(self._loop, self._state.sockets[scope])
        return self._inside[scope]

    def _complain(self) -> None:
        now = self._loop.clock()
        if now - self._complained > _COMPLAIN_SECONDS:
            self._complained = now
            log.warning("%d queries wait for other servers: further ones are refused", len(self._flights))


class _Flight:
    """One question on its way to a row of servers; equal ones that come meanwhile wait for its answer."""

    def __init__(
        self,
        forwarder: Forwarder,
        key: tuple[str, bool, bytes],
        query: bytes,
        servers: Sequence[Server],
        inside: Inside,
    ) -> None:
        self.key = key
        self.query = os.urandom(2) + query[2:]
        self.inside = inside
        self.waiters: list[_Waiter] = []
        self._forwarder = forwarder
        self._to_ask = list(servers) if len(servers) > 1 else [*servers, *servers]
        self._asked: list[Asked] = []
        self._failure: bytes | None = None
        self._ended = False
        self._turn = 0
        """Of the last asking: time is counted from that."""

    def begin(self, loop: Loop) -> None:
        self._loop = loop
        if not self._ask_next():
            self.end()

    def answered(self, asked: Asked, answer: bytes) -> bool:
        """Called with everything that may be the answer; a stranger's is passed over."""
        if self._ended or not wire.is_answer_to(answer, self.query):
            return self._ended
        if wire.rcode(answer) in _BAD and self._another(asked):
            self._failure = answer
        else:
            self.end(answer)
        return True

    def failed(self, asked: Asked) -> None:
        """The server cannot be reached, or has hung up."""
        if not self._ended and not self._another(asked):
            self.end(self._failure)

    def end(self, answer: bytes | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        for asked in self._asked:
            asked.close()
        self._forwarder.ended(self, answer)

    def _another(self, asked: Asked) -> bool:
        """Whether there is still hope without this one."""
        asked.close()
        if asked in self._asked:
            self._asked.remove(asked)
        if self._to_ask:
            self._ask_next()
        return not self._ended and bool(self._asked)

    def _ask_next(self) -> bool:
        """Whether one was left that could be asked."""
        while self._to_ask:
            server = self._to_ask.pop(0)
            try:
                self._asked.append(self._forwarder.asked(self, server))
            except OSError as error:
                log.debug("%s cannot be asked: %s", server.address, error)
                continue
            self._turn += 1
            self._loop.call_later(
                _NEXT_SECONDS if self._to_ask else _SERVER_SECONDS, partial(self._late, self._turn)
            )
            return True
        return False

    def _late(self, turn: int) -> None:
        """Time for the next server, or for giving up."""
        if self._ended or turn != self._turn:
            return
        if not self._to_ask:
            self.end(self._failure)
        elif not self._ask_next():
            self._turn += 1
            self._loop.call_later(_SERVER_SECONDS - _NEXT_SECONDS, partial(self._late, self._turn))
