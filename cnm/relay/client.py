"""cnmd's end of the control connection to a running relay."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cnm.errors import Unavailable
from cnm.relay import messages
from cnm.relay.messages import Message, Verb
from cnm.relay.tcp import Target

_SO_COOKIE = 57
"""<asm-generic/socket.h>; 8 bytes that tell one socket from every other."""


class Lost(Unavailable):
    """The relay died, or said what is no message, or did not answer in time."""


class Front(NamedTuple):
    """What is to be relayed: protocol "tcp" or "udp", a bound socket, and where its traffic goes."""

    protocol: str
    socket: socket.socket
    target: Target

    @property
    def identity(self) -> tuple[str, Target, bytes]:
        """Equal for duplicates of the same socket that lead to the same place."""
        return self.protocol, self.target, self.socket.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)


class Client:
    """One connection. Not thread-safe, but for the waiting and what the relay said of itself.

    What raises Lost has hung up.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Owns `channel`, whose timeout holds for each answer. Raises Lost when no relay greets."""
        self._channel = channel
        self.served: dict[str, tuple[str, Target, bytes]] = {}
        """What it serves, as far as this connection knows: `Front.identity` by id."""
        self.since = time.monotonic()
        try:
            self._hello, _ = self._receive(Verb.HELLO)
            self._process = os.pidfd_open(self._hello.pid)
        except (Lost, OSError) as error:
            channel.close()
            raise Lost(f"the relay does not greet: {error}") from None

    @property
    def pid(self) -> int:
        return self._hello.pid

    @property
    def version(self) -> int:
        return self._hello.version

    @property
    def namespace(self) -> str:
        """The relay's network namespace, as `messages.namespace_identity` names it."""
        return self._hello.namespace

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
        """Have it drop everything, let nobody in any more, and end when this has hung up."""
        self._ask([(Message(Verb.END), None)])
        self.served.clear()
        self.hang_up()

    def wait_for_hang_up(self) -> None:
        """Wait until either side has hung up."""
        poll = select.poll()
        poll.register(self._channel, 0)  # what must be read is not waited for
        poll.poll()

    def wait_for_end(self, seconds: float) -> bool:
        """Whether the process has ended, or does in time."""
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def hang_up(self) -> None:
        """The relay serves on."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody may wait any more."""
        self._channel.close()
        os.close(self._process)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

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

    def _lost(self, error: Exception) -> Lost:
        self.hang_up()
        if isinstance(error, TimeoutError):
            return Lost("the relay does not answer")
        return Lost(f"the relay is lost: {getattr(error, 'strerror', None) or error}")
