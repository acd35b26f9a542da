"""The relay's loop serves what is ready and calls what is due, and nothing that is not any more."""

from __future__ import annotations

import os
import socket
from select import EPOLLIN

from cnm.sidecar.acceptor import Acceptor
from cnm.sidecar.loop import Loop
from tests.unit.relay_loop import turn_until


class _Swap:
    """At the first event, replaces the other descriptor by a new one of the same number."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.pairs = [socket.socketpair() for _ in range(2)]
        self.told: list[int] = []
        for ours, theirs in self.pairs:
            loop.watch(ours.fileno(), EPOLLIN, self)
            theirs.send(b"x")

    def ready(self, descriptor: int, events: int) -> None:
        self.told.append(descriptor)
        if len(self.told) > 1:
            return
        (other,) = [ours for ours, _ in self.pairs if ours.fileno() != descriptor]
        self.loop.forget(other.fileno())
        fresh = socket.socketpair()
        os.dup2(fresh[0].fileno(), other.fileno())
        self.pairs.append(fresh)
        self.loop.watch(other.fileno(), EPOLLIN, self)

    def close(self) -> None:
        for pair in self.pairs:
            for end in pair:
                end.close()


def test_an_event_of_a_closed_descriptor_does_not_reach_its_successor() -> None:
    loop = Loop()
    swap = _Swap(loop)

    loop.run_once(1)

    assert len(swap.told) == 1
    swap.close()
    loop.close()


def test_timers_are_called_in_their_order_when_they_are_due() -> None:
    now = 100.0
    loop = Loop(clock=lambda: now)
    called: list[str] = []
    loop.call_later(5, lambda: called.append("second"))
    loop.call_later(2, lambda: called.append("first"))

    loop.run_once(0)
    assert called == []
    now = 105.0
    loop.run_once(0)

    assert called == ["first", "second"]
    loop.close()


def test_run_wakes_for_a_timer_and_ends_when_told() -> None:
    loop = Loop()
    loop.call_later(0.01, loop.stop)

    loop.run()

    loop.close()


def test_without_descriptors_nobody_is_accepted_and_the_loop_rests_until_there_are_some_again() -> None:
    now = 100.0
    loop = Loop(clock=lambda: now)
    accepted: list[socket.socket] = []
    listener = _Exhausted()
    acceptor = Acceptor(loop, listener, accepted.append)
    client = socket.create_connection(listener.getsockname())

    loop.run_once(1)
    loop.run_once(0.05)
    assert listener.attempts == 1

    listener.exhausted = False
    now += 1
    turn_until(loop, lambda: accepted)

    acceptor.close()
    for end in (client, listener, *accepted):
        end.close()
    loop.close()


class _Exhausted(socket.socket):
    """A listener in a process that may open nothing more."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.exhausted = True
        self.attempts = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.attempts += 1
        if self.exhausted:
            raise OSError(24, "too many open files")
        return super().accept()
