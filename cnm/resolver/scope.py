"""One sandbox's server: its two sockets, and what becomes of the queries that arrive there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from select import EPOLLIN
from typing import Any

from cnm.resolver import wire
from cnm.resolver.answers import Answers, Forward
from cnm.resolver.forward import Forwarder
from cnm.resolver.records import visitor
from cnm.resolver.state import State
from cnm.resolver.stats import Stats
from cnm.resolver.tcp import TcpServer
from cnm.sidecar.loop import Loop

_QUERIES_PER_ROUND = 64
_LONGEST_DATAGRAM = 4096
_EPOLLEXCLUSIVE = 1 << 28
"""One worker is woken, not all."""

Reply = Callable[[bytes], None]


class ScopeServer:
    """Closed before its sockets are."""

    def __init__(self, loop: Loop, scope: str, state: State, forwarder: Forwarder, stats: Stats) -> None:
        self._loop = loop
        self._scope = scope
        self._forwarder = forwarder
        self._stats = stats
        self._udp = state.sockets[scope]["udp"]
        self._udp.setblocking(False)
        self._book = state.book
        self._answers = Answers(state.book, scope)
        self._by_client = state.book.scope(scope).by_client
        self._visitors: dict[str, Answers] = {}
        """By the address that they ask from."""
        self._tcp = TcpServer(loop, state.sockets[scope]["tcp"], self._ask_over_tcp)
        loop.watch(self._udp.fileno(), EPOLLIN | _EPOLLEXCLUSIVE, self)

    def close(self) -> None:
        self._loop.forget(self._udp.fileno())
        self._tcp.close()

    def ready(self, descriptor: int, events: int) -> None:
        """The hot path: what is known is answered at once, a batch in one go."""
        receive, send, answer = self._udp.recvfrom, self._udp.sendto, self._answers.answer
        answers_for = self._answers_for if self._by_client else None
        codes = self._stats.codes
        began = time.perf_counter()
        answered = count = 0
        for _ in range(_QUERIES_PER_ROUND):
            try:
                query, client = receive(_LONGEST_DATAGRAM)
            except OSError:
                break  # EAGAIN: all are read
            count += 1
            found = answers_for(client[0]).answer(query, True) if answers_for else answer(query, True)
            if isinstance(found, bytes):
                codes[found[3] & 15] += 1
                answered += 1
                try:
                    send(found, client)
                except OSError:
                    continue  # its queue is full, or it has gone: it asks again
            elif found is None:
                self._stats.silent += 1
            else:
                self._forward(query, found, client)
        self._stats.udp += count
        if answered:
            self._stats.took((time.perf_counter() - began) / count, answered)

    def _answers_for(self, address: str) -> Answers:
        """For one client, where clients are told apart."""
        ident = visitor(self._scope, address)
        if not self._book.has_scope(ident):
            self._visitors.pop(address, None)
            return self._answers
        if address not in self._visitors:
            self._visitors[address] = Answers(self._book, ident)
        return self._visitors[address]

    def _forward(self, query: bytes, found: Forward, client: Any) -> None:
        reply = partial(self._reply_over_udp, client, found.limit, time.perf_counter())
        self._forwarder.ask(self._scope, query, found, False, reply)

    def _reply_over_udp(self, client: Any, limit: int, began: float, answer: bytes) -> None:
        self._count(answer, began)
        try:
            self._udp.sendto(wire.truncated(answer, limit), client)
        except OSError:
            return  # as above

    def _ask_over_tcp(self, query: bytes, channel: socket.socket, reply: Reply) -> bool:
        """Whether an answer comes, now or later."""
        self._stats.tcp += 1
        began = time.perf_counter()
        answers = self._answers_for(_peer(channel)) if self._by_client else self._answers
        found = answers.answer(query, False)
        if found is None:
            self._stats.silent += 1
            return False
        if isinstance(found, Forward):
            self._forwarder.ask(self._scope, query, found, True, partial(self._reply_over_tcp, reply, began))
        else:
            self._reply_over_tcp(reply, began, found)
        return True

    def _reply_over_tcp(self, reply: Reply, began: float, answer: bytes) -> None:
        self._count(answer, began)
        reply(answer)

    def _count(self, answer: bytes, began: float) -> None:
        self._stats.codes[answer[3] & 15] += 1
        self._stats.took(time.perf_counter() - began)


def _peer(channel: socket.socket) -> str:
    """The bare address of whoever is connected, "" where he has gone."""
    try:
        return str(channel.getpeername()[0])
    except OSError:
        return ""
