"""A process that serves: all sandboxes' sockets, beside other workers that have the same ones."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Iterable
from select import EPOLLIN

from cnm.resolver.forward import Forwarder
from cnm.resolver.messages import LONGEST, Message, Verb
from cnm.resolver.scope import ScopeServer
from cnm.resolver.state import Sockets, State
from cnm.resolver.stats import Stats
from cnm.sidecar import packets
from cnm.sidecar.loop import Loop

_PR_SET_PDEATHSIG = 1
_SHARED = ("udp", "tcp")


def is_for(number: int, name: str) -> bool:
    """Whether a socket of this name is one that worker `number` has."""
    return name in _SHARED or name.startswith(f"{number}/")


def run(number: int, channel: socket.socket, state: State) -> None:
    """Serve until the parent is gone."""
    _end_with_parent()
    Worker(number, channel, state).run()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it was quicker
        os._exit(0)


class Worker:
    """Hears of changes from its parent, and answers each when it holds."""

    def __init__(self, number: int, channel: socket.socket, state: State) -> None:
        self._number = number
        self._channel = channel
        self._state = state
        self._loop = Loop()
        self._stats = Stats()
        self._forwarder = Forwarder(self._loop, state, self._stats)
        self._served: dict[str, ScopeServer] = {}
        for sockets in state.sockets.values():
            _close_others(number, sockets)
        state.opened, state.closing = self._open, self._close
        for scope in state.sockets:
            self._open(scope)
        self._loop.watch(channel.fileno(), EPOLLIN, self)

    def run(self) -> None:
        self._loop.run()

    def ready(self, descriptor: int, events: int) -> None:
        packet = packets.receive(self._channel, LONGEST)
        if packet is None:
            os._exit(0)
        message = Message.decode(packet.content)
        body: dict[str, object] = {"error": ""}
        if message.verb is Verb.STATS:
            body["stats"] = self._stats.as_dict()
        else:
            carried = _carried(message, packet.descriptors)
            try:
                self._state.apply(message, carried)
            except ValueError as error:  # which the parent had no objection to
                body["error"] = str(error)
            self._state.close_spare(message.id, carried)
        packets.send(self._channel, Message(Verb.DONE, message.id, body).encode())

    def _open(self, scope: str) -> None:
        self._served[scope] = ScopeServer(self._loop, scope, self._state, self._forwarder, self._stats)

    def _close(self, scope: str) -> None:
        self._served.pop(scope).close()
        self._forwarder.forget(scope)


def _carried(message: Message, descriptors: Iterable[int]) -> Sockets:
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return dict(zip(message.body["sockets"], sockets, strict=True)) if sockets else {}


def _close_others(number: int, sockets: Sockets) -> None:
    """A fork has those of all workers."""
    for name in [name for name in sockets if not is_for(number, name)]:
        sockets.pop(name).close()
