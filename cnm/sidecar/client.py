"""cnmd's end of the control connection to a sidecar: what does not depend on what it serves."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

from cnm.errors import Unavailable


class Lost(Unavailable):
    """The sidecar died, or said what is no message, or did not answer in time."""


class Greeting(NamedTuple):
    """What a sidecar says of itself."""

    version: int
    pid: int
    namespace: str
    """The network namespace that it runs in, as `packets.namespace_identity` names it."""


class Client(ABC):
    """One connection. Not thread-safe, but for the waiting and the greeting. What raises Lost has hung up."""

    kind: str
    """What the sidecar is, in messages: "relay"."""

    def __init__(self, channel: socket.socket) -> None:
        """Owns `channel`, whose timeout holds for each answer. Raises Lost when nobody greets."""
        self._channel = channel
        self.since = time.monotonic()
        try:
            self.greeting = self._greeted()
            self._process = os.pidfd_open(self.greeting.pid)
        except (Lost, OSError) as error:
            channel.close()
            raise Lost(f"the {self.kind} does not greet: {error}") from None

    @abstractmethod
    def _greeted(self) -> Greeting:
        """The first message. Raises Lost."""

    @abstractmethod
    def end(self) -> None:
        """Have it drop everything, let nobody in any more, and end when this has hung up. Raises Lost."""

    @property
    def pid(self) -> int:
        return self.greeting.pid

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
        """The sidecar serves on."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody may wait any more."""
        self._channel.close()
        os.close(self._process)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def _lost(self, error: Exception) -> Lost:
        self.hang_up()
        if isinstance(error, TimeoutError):
            return Lost(f"the {self.kind} does not answer")
        return Lost(f"the {self.kind} is lost: {getattr(error, 'strerror', None) or error}")
