"""cnmd's end of the control connection to a running relay."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cnm.relay import messages
from cnm.relay.messages import Message, Verb
from cnm.relay.tcp import Target
from cnm.sidecar import client as sidecar_client
from cnm.sidecar.client import Greeting

_SO_COOKIE = 57
"""<asm-generic/socket.h>; 8 bytes that tell one socket from every other."""


class Front(NamedTuple):
    """What is to be relayed: protocol "tcp" or "udp", a bound socket, and where its traffic goes."""

    protocol: str
    socket: socket.socket
    target: Target

    @property
    def identity(self) -> tuple[str, Target, bytes]:
        """Equal for duplicates of the same socket that lead to the same place."""
        return self.protocol, self.target, self.socket.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)


class Client(sidecar_client.Client):
    """One connection to a relay."""

    kind = "relay"

    def __init__(self, channel: socket.socket) -> None:
        self.served: dict[str, tuple[str, Target, bytes]] = {}
        """What it serves, as far as this connection knows: `Front.identity` by id."""
        super().__init__(channel)

    def _greeted(self) -> Greeting:
        hello, _ = self._receive(Verb.HELLO)
        return Greeting(hello.version, hello.pid, hello.namespace)

    def serves(self, ident: str, front: Front) -> bool:
        return self.served.get(ident) == front.identity

    def list(self) -> dict[str, Front]:
        """What it serves; the caller owns the sockets."""
        self._send(Message(Verb.LIST))
        fronts: dict[str, Front] = {}
        while True:
            message, carried = self._receive(Verb.HELD, Verb.DONE)
            if message.verb is Verb.DONE:
                break
            if carried is not None:
                fronts[message.id] = Front(message.protocol, carried, (message.address, message.port))
        self.served = {ident: front.identity for ident, front in fronts.items()}
        return fronts

    def serve(self, fronts: Mapping[str, Front]) -> dict[str, str]:
        """Serve these; returns why not, by id, for those that it cannot."""
        requests = [
            (Message(Verb.SERVE, ident, front.protocol, *front.target), front.socket.fileno())
            for ident, front in fronts.items()
        ]
        errors = self._ask(requests)
        for ident, front in fronts.items():
            if ident in errors:
                self.served.pop(ident, None)
            else:
                self.served[ident] = front.identity
        return errors

    def drop(self, idents: Collection[str]) -> None:
        self._ask([(Message(Verb.DROP, ident), None) for ident in idents])
        for ident in idents:
            self.served.pop(ident, None)

    def end(self) -> None:
        self._ask([(Message(Verb.END), None)])
        self.served.clear()
        self.hang_up()

    def _ask(self, requests: Sequence[tuple[Message, int | None]]) -> dict[str, str]:
        """Ask everything, then read every answer; returns the errors by id."""
        for message, descriptor in requests:
            self._send(message, descriptor)
        answers = [self._receive(Verb.DONE)[0] for _ in requests]
        return {answer.id: answer.error for answer in answers if answer.error}

    def _send(self, message: Message, descriptor: int | None = None) -> None:
        try:
            messages.send(self._channel, message, descriptor)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, *verbs: Verb) -> tuple[Message, socket.socket | None]:
        try:
            received = messages.receive(self._channel)
            if received is None:
                raise ConnectionResetError("the relay has ended")
            if received[0].verb not in verbs:
                raise ValueError(f"the relay said {received[0].verb.value}, which was not asked")
        except (OSError, ValueError) as error:
            raise self._lost(error) from None
        return received
