"""The relay's side of its control socket: what cnmd asks for, and the table of what is served."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from select import EPOLLIN, EPOLLOUT

from cnm.relay import messages
from cnm.relay.messages import Message, Verb
from cnm.relay.tcp import TcpRelay
from cnm.relay.udp import UdpRelay
from cnm.sidecar.acceptor import Acceptor
from cnm.sidecar.loop import Loop

log = logging.getLogger("cnm.relay")

_MESSAGES_PER_ROUND = 64


class Control:
    """Accepts cnmd, and keeps the relays. When nothing is served and nobody is connected any more, it ends the loop."""

    def __init__(self, loop: Loop, listener: socket.socket, namespace: str) -> None:
        self.relays: dict[str, TcpRelay | UdpRelay] = {}
        self.hello = Message(Verb.HELLO, version=messages.VERSION, pid=os.getpid(), namespace=namespace)
        self._loop = loop
        self._listener = listener
        self._acceptor = Acceptor(loop, listener, self._welcome)
        self._sessions: set[_Session] = set()
        self._retired = False

    def serve(self, request: Message, front: socket.socket | None) -> str:
        """Serve a socket under an id, in place of what the id stood for; returns why not, "" when it is served."""
        if front is None:
            return "no socket came with it, or the relay has no descriptor left for it"
        kinds = {("tcp", socket.SOCK_STREAM): TcpRelay, ("udp", socket.SOCK_DGRAM): UdpRelay}
        kind = kinds.get((request.protocol, front.type))
        if kind is None:
            front.close()
            return f"its socket does not speak {request.protocol}"
        self.drop(request.id)
        try:
            self.relays[request.id] = kind(self._loop, front, (request.address, request.port))
        except OSError as error:
            front.close()
            return (error.strerror or str(error)).lower()
        return ""

    def drop(self, ident: str) -> None:
        relay = self.relays.pop(ident, None)
        if relay is not None:
            relay.close()

    def retire(self) -> None:
        """Serve nothing any more, and let nobody in: whoever comes now starts a relay of his own."""
        for ident in list(self.relays):
            self.drop(ident)
        self._acceptor.close()
        self._listener.close()
        self._retired = True

    def left(self, session: _Session) -> None:
        self._sessions.discard(session)
        if not self.relays and (self._retired or not self._sessions):
            self._loop.stop()

    def _welcome(self, channel: socket.socket) -> None:
        self._sessions.add(_Session(self, self._loop, channel))


class _Session:
    """One connection of cnmd. Answers wait here while its queue is full: traffic must not wait for cnmd."""

    def __init__(self, control: Control, loop: Loop, channel: socket.socket) -> None:
        self._control = control
        self._loop = loop
        self._channel = channel
        self._answers: deque[tuple[Message, socket.socket | None]] = deque([(control.hello, None)])
        channel.setblocking(False)
        loop.watch(channel.fileno(), EPOLLIN | EPOLLOUT, self)

    def ready(self, descriptor: int, events: int) -> None:
        try:
            if not self._listen():
                self._close()
                return
            self._speak()
        except (OSError, ValueError) as error:
            log.warning("control connection: %s", error)
            self._close()
            return
        self._loop.change(descriptor, EPOLLIN | (EPOLLOUT if self._answers else 0))

    def _listen(self) -> bool:
        """Do what was asked; False when the other side is gone."""
        for _ in range(_MESSAGES_PER_ROUND):
            try:
                received = messages.receive(self._channel)
            except BlockingIOError:
                return True
            if received is None:
                return False
            self._answer(*received)
        return True

    def _answer(self, request: Message, front: socket.socket | None) -> None:
        error = ""
        if request.verb is Verb.LIST:
            for ident, relay in self._control.relays.items():
                held = Message(Verb.HELD, ident, relay.protocol, *relay.target)
                self._answers.append((held, relay.socket))
        elif request.verb is Verb.SERVE:
            error = self._control.serve(request, front)
        elif request.verb is Verb.DROP:
            self._control.drop(request.id)
        elif request.verb is Verb.END:
            self._control.retire()
        else:
            error = f"{request.verb.value} is not a request"
        self._answers.append((Message(Verb.DONE, request.id, error=error), None))

    def _speak(self) -> None:
        while self._answers:
            answer, carried = self._answers[0]
            try:
                if carried is None:
                    messages.send(self._channel, answer)
                elif carried.fileno() >= 0:  # not dropped meanwhile
                    messages.send(self._channel, answer, carried.fileno())
            except BlockingIOError:
                return
            self._answers.popleft()

    def _close(self) -> None:
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._control.left(self)
