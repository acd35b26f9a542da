"""Moves of which this host does not know whether they came to their end, or which it has not ended itself.

The other host has what it needs, and may have made it a volume; only that host can say it. Until it has, nobody uses
the volume here, and where it has come, not before what is here is deleted. A node that was removed from the cluster
cannot say it; then the volume is this host's again. A host that has left the cluster itself cannot ask: there somebody
has to look, and say that it is (`keep`).
"""

from __future__ import annotations

import logging
import time
from contextlib import closing, suppress

import msgspec

from cnm.errors import CnmError, Conflict, NotFound, Unavailable
from cnm.launcher.disk import refusal
from cnm.launcher.moving import notes
from cnm.launcher.moving.notes import Leaving
from cnm.launcher.moving.peers import ClusterPeers, Peer
from cnm.launcher.moving.sender import Sender
from cnm.launcher.volumes.named_locks import NamedLocks
from cnm.launcher.volumes.registry import LeftBehind
from cnm.launcher.volumes.volumes import Volumes

log = logging.getLogger("cnm.launcher")

_PAUSES = (2.0, 30.0)
"""Seconds before the other host is asked again, the first and the longest."""


class Settling:
    """Thread-safe."""

    def __init__(self, volumes: Volumes, peers: ClusterPeers) -> None:
        self._volumes = volumes
        self._peers = peers
        self._locked = NamedLocks()
        self._open: dict[str, Leaving] = {}
        """By volume, which is held for as long as it is here."""
        self._damaged: set[str] = set()
        """Held, too, and nobody can be asked about them."""
        self._pause, self._next_try = _PAUSES[0], 0.0

    def load(self) -> None:
        """After the volumes: those that were on their way when this host's launcher ended."""
        for volume in self._volumes.recorded():
            if self._volumes.fault(volume.name):
                continue  # nobody uses it anyway, and it is asked about when it has none any more
            try:
                note = notes.leaving(self._volumes.folder(volume.name))
            except (OSError, msgspec.DecodeError) as error:
                log.error("volume %s: whether it has left cannot be read: %s", volume.name, error)
                self._damaged.add(volume.name)
                self._volumes.held.add(volume.name, _damaged(volume.name))
                continue
            if note is not None:
                self.open(volume.name, note)

    def is_open(self, name: str) -> bool:
        return name in self._open

    def open(self, name: str, note: Leaving) -> None:
        """Nobody knows whether the move has come to its end."""
        with self._locked(name):
            self._open[name] = note
            self._volumes.held.change(name, self._in_doubt(name, note))

    def ask(self, name: str, note: Leaving) -> bool:
        """Whether a move has come to its end of which this host has had no answer. Raises as `settle`."""
        with self._locked(name):  # so that nobody else comes before, and hears the answer
            self.open(name, note)
            return self.settle(name) is not None

    def settle_all(self) -> None:
        """As far as other hosts answer; seldom where they do not."""
        if not self._open or time.monotonic() < self._next_try:
            return
        for name in list(self._open):
            try:
                self.settle(name)
                self._pause = _PAUSES[0]
            except CnmError as error:
                log.info("%s", error)
                self._pause = min(2 * self._pause, _PAUSES[1])
        self._next_try = time.monotonic() + self._pause

    def settle(self, name: str) -> Leaving | None:
        """Of a volume that has left, how; None of one that is this host's.

        Raises Unavailable where nobody can say it, CnmError where it has left and its files here cannot be deleted.
        """
        with self._locked(name):
            if (note := self._open.get(name)) is None:
                return None
            if not note.has_arrived and not self._has_arrived(name, note):
                self._stays(name)
                return None
            self._goes(name, note)
            self._confirm(name, note)
            return note

    def arrived(self, name: str, note: Leaving, sender: Sender) -> None:
        """The other host has said so: here it goes. Raises CnmError where it cannot."""
        with self._locked(name):
            self._goes(name, note)
        with suppress(CnmError):
            sender.confirm()

    def keep(self, name: str) -> None:
        """It is this host's, whatever the other one has; one that is nothing else is fine.

        Raises NotFound; Conflict where the other host can be asked, or is known to have it; CnmError.
        """
        with self._locked(name):
            if (note := self._open.get(name)) is not None:
                self._check_silent(name, note)
            elif name not in self._damaged:
                self._volumes.find(name)
                self._volumes.held.check(name, "keep")
                return
            self._stays(name)

    def _check_silent(self, name: str, note: Leaving) -> None:
        """Raises Conflict."""
        node = note.node
        if note.has_arrived:
            raise Conflict(f"keep {name}: it is on host {node}")
        if self._peers.own() is not None:
            raise Conflict(
                f"keep {name}: host {node} can be asked: 'cnmctl volume move {name} {node}' does it; one that will "
                f"never answer is taken out by 'cnmctl cluster rm {node}'"
            )

    # With the volume's lock

    def _has_arrived(self, name: str, note: Leaving) -> bool:
        """Raises Unavailable where nobody can say it."""
        try:
            if (peer := self._peer(name, note)) is None:
                log.warning("host %s is no node of the cluster any more", note.node)
                return False
            with closing(Sender(self._peers, peer, note.move, name)) as sender:
                return sender.settle()
        except CnmError as error:
            self._volumes.held.change(name, self._in_doubt(name, note))
            raise Unavailable(
                f"whether volume {name} is on host {note.node} is not known, and nobody uses it here until it is: "
                f"{error}"
            ) from None

    def _peer(self, name: str, note: Leaving) -> Peer | None:
        """The other host, None for one that is no node any more. Raises Unavailable."""
        if self._peers.own() is None:
            raise Unavailable(_apart(name, note.node))
        try:
            return Peer(note.node, self._peers.known(note.node)["Address"])
        except NotFound:
            return None
        except CnmError:  # cnmd is away, or the cluster
            return Peer(note.node, note.address)

    def _confirm(self, name: str, note: Leaving) -> None:
        """The other host need not remember. It does no harm if it does."""
        with suppress(CnmError):
            if (peer := self._peer(name, note)) is not None:
                with closing(Sender(self._peers, peer, note.move, name)) as sender:
                    sender.confirm()

    def _goes(self, name: str, note: Leaving) -> None:
        """Raises CnmError: then it is held as before, and tried again."""
        try:
            self._volumes.hand_over(name)
        except NotFound:
            pass
        except LeftBehind as error:
            log.error("volume %s is on host %s: %s", name, note.node, error)
        except CnmError as error:
            self._open[name] = note = msgspec.structs.replace(note, has_arrived=True)
            with suppress(OSError):
                notes.note_leaving(
                    self._volumes.folder(name), note
                )  # that host may be no more when it is asked again
            why = f"it is on host {note.node}, and its files here cannot be deleted: {error}"
            self._volumes.held.change(name, why)
            raise type(error)(f"volume {name}: {why}") from None
        self._forget(name)

    def _stays(self, name: str) -> None:
        folder = self._volumes.folder(name)
        try:
            notes.forget_leaving(folder)
        except OSError as error:
            raise CnmError(f"volume {name} stays here: {refusal(error, folder)}") from None
        log.info("volume %s stays here", name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._open.pop(name, None)
        self._damaged.discard(name)
        self._volumes.held.drop(name)

    def _in_doubt(self, name: str, note: Leaving) -> str:
        """What is said behind the volume's name."""
        if note.has_arrived:
            return f"it is on host {note.node}, and its files here are not deleted yet"
        unknown = f"whether it is on host {note.node} is not known yet"
        with suppress(CnmError):
            if self._peers.own() is None:
                return f"{unknown}, and {_apart(name, note.node)}"
        return f"{unknown}: end that with 'cnmctl volume move {name} {note.node}'"


def _apart(name: str, node: str) -> str:
    return (
        f"this host is in no cluster any more, and cannot ask: look on {node}; 'cnmctl volume keep {name}' has "
        "what is here again"
    )


def _damaged(name: str) -> str:
    return (
        f"it may have left this host: its leaving.json is damaged: look on the others; 'cnmctl volume keep {name}' has "
        "what is here again"
    )
