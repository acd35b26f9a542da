"""cnmd's end of the control connection to a running resolver."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnm.resolver.messages import LONGEST, Message, Verb
from cnm.sidecar import client as sidecar_client
from cnm.sidecar import packets
from cnm.sidecar.client import Greeting, Lost
from cnm.sidecar.packets import Packet

_MOST_UNANSWERED = 8
"""Messages: were all sent before an answer is read, both sides would wait for room in the other's queue."""


class Told(NamedTuple):
    """A message, and the sockets of a scope that go with it, in the order of their names in it."""

    message: Message
    sockets: Sequence[socket.socket] = ()


class Client(sidecar_client.Client):
    """One connection to a resolver."""

    kind = "resolver"
    workers: int
    """How many processes it has that serve."""

    def _greeted(self) -> Greeting:
        hello, _ = self._receive(Verb.HELLO)
        try:
            self.workers = int(hello.body["workers"])
            return Greeting(hello.body["version"], hello.body["pid"], hello.body["namespace"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._lost(error) from None

    def tell(self, told: Sequence[Told]) -> list[str]:
        """Tell all, then wait until all is done; returns what was refused, in words. Raises Lost."""
        answers = []
        for number, (message, sockets) in enumerate(told):
            if number >= _MOST_UNANSWERED:
                answers.append(self._receive(Verb.DONE)[0])
            self._send(message, sockets)
        answers += [self._receive(Verb.DONE)[0] for _ in range(len(told) - len(answers))]
        return [answer.body["error"] for answer in answers if answer.body["error"]]

    def list(self) -> dict[str, dict[str, socket.socket]]:
        """The sockets of each scope by their names; the caller owns them."""
        self._send(Message(Verb.LIST))
        held: dict[str, dict[str, socket.socket]] = {}
        while True:
            message, packet = self._receive(Verb.HELD, Verb.DONE)
            if message.verb is Verb.DONE:
                return held
            sockets = (socket.socket(fileno=descriptor) for descriptor in packet.descriptors)
            held[message.id] = dict(zip(message.body["sockets"], sockets, strict=False))

    def stats(self) -> Mapping[str, Any]:
        self._send(Message(Verb.STATS))
        answer, _ = self._receive(Verb.DONE)
        found: Mapping[str, Any] = answer.body["stats"]
        return found

    def end(self) -> None:
        self._send(Message(Verb.END))
        self._receive(Verb.DONE)
        self.hang_up()

    def _send(self, message: Message, sockets: Sequence[socket.socket] = ()) -> None:
        try:
            packets.send(self._channel, message.encode(), [each.fileno() for each in sockets])
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, *verbs: Verb) -> tuple[Message, Packet]:
        try:
            packet = packets.receive(self._channel, LONGEST)
            if packet is None:
                raise ConnectionResetError("the resolver has ended")
            message = Message.decode(packet.content)
            if message.verb not in verbs:
                raise ValueError(f"the resolver said {message.verb.value}, which was not asked")
        except (OSError, ValueError) as error:
            raise self._lost(error) from None
        return message, packet


__all__ = ["Client", "Lost", "Told"]
