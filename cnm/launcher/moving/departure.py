"""One volume on its way to another host, in a thread of its own, and what its client is told of it."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cnm.errors import CnmError, Unavailable
from cnm.launcher import progress
from cnm.launcher.moving.frames import Frame
from cnm.launcher.moving.peers import Peer
from cnm.launcher.progress import Message
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

_BEAT_SECONDS = 0.5
"""Between two words on how far it is."""


class _End(NamedTuple):
    failure: CnmError | None = None


class Departure:
    """One volume that leaves, in a thread of its own."""

    def __init__(self, volume: Volume, peer: Peer, send: Callable[[Departure], object]) -> None:
        """`send` does it, and raises CnmError."""
        self.volume, self.peer = volume, peer
        self.move = new_move()
        self.total = 0
        """Bytes that the volume takes of the disk."""
        self._send = send
        self._sent = 0
        self._given_up = threading.Event()
        self._ended = threading.Event()
        self._end = _End()

    def start(self) -> None:
        threading.Thread(target=self._run, name="volume leaves", daemon=True).start()

    def _run(self) -> None:
        try:
            self._send(self)
            log.info("volume %s is on host %s now", self.volume.name, self.peer.name)
        except CnmError as error:
            self._end = _End(error)
        except Exception as error:
            log.exception("volume %s was not moved", self.volume.name)
            self._end = _End(CnmError(f"internal error: {' '.join(str(error).split())}"))
        finally:
            self._ended.set()

    def messages(self) -> Iterator[Message | None]:
        """How far it is, None to look whether somebody listens. Raises CnmError at its end. Closed before that, it is
        given up, unless the other host has all of it by then."""
        name, told = self.volume.name, -1
        try:
            yield progress.message(f"Moving to {self.peer.name}", name)
            while not self._ended.wait(_BEAT_SECONDS):
                if self._sent != told and self.total:
                    told = self._sent
                    yield progress.of_layer("Moving", name, min(told, self.total), self.total)
                else:
                    yield None
        finally:
            self.give_up()
        if self._end.failure is not None:
            raise self._end.failure
        yield progress.message(f"Moved to {self.peer.name}", name)

    def give_up(self) -> None:
        """Nobody waits for it: it ends, unless it has ended, or the other host has all of it."""
        if not self._ended.is_set() and not self._given_up.is_set():
            log.info("volume %s: nobody waits for its move any more", self.volume.name)
        self._given_up.set()

    def count(self, sent: int) -> None:
        self._sent += sent

    def watched(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.check_wanted()
            yield frame

    def check_wanted(self) -> None:
        """Raises Unavailable where the client has gone."""
        if self._given_up.is_set():
            raise Unavailable(f"volume {self.volume.name} is not moved: the client went away")


def done(name: str, peer: Peer) -> Departure:
    """It had arrived before."""
    made = Departure(Volume(name=name), peer, lambda departure: None)
    made.start()
    return made


def new_move() -> str:
    return secrets.token_hex(32)
