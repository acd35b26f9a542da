"""The host that a volume leaves: it sends all of it, has the other host commit, and deletes its own when that has.

Before the commit nothing here has changed. Behind it the volume is held, on the disk too, until the other host has said
whether it came: as long as nobody knows, nobody uses it here. A node that was removed from the cluster cannot say it,
nor use what it may have: then the volume is this host's again.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound, Unavailable
from cnm.launcher import progress
from cnm.launcher.moving import notes
from cnm.launcher.moving.arriving import Offer
from cnm.launcher.moving.frames import Frame
from cnm.launcher.moving.notes import Leaving
from cnm.launcher.moving.peers import ClusterPeers, Peer
from cnm.launcher.moving.sender import Sender
from cnm.launcher.moving.tree_read import TreeReader, space
from cnm.launcher.progress import Message
from cnm.launcher.registry import Registry
from cnm.launcher.volumes.drivers import LOCAL, Scope
from cnm.launcher.volumes.mounted import mounts_below
from cnm.launcher.volumes.volume import Volume
from cnm.launcher.volumes.volumes import Volumes

log = logging.getLogger("cnm.launcher")

_BEAT_SECONDS = 0.5
"""Between two words on how far it is."""
_PAUSES = (2.0, 30.0)
"""Seconds before the other host is asked again, the first and the longest."""


class Departures:
    """Thread-safe."""

    def __init__(self, volumes: Volumes, registry: Registry, peers: ClusterPeers) -> None:
        self._volumes = volumes
        self._registry = registry
        self._peers = peers
        self._settling = threading.Lock()
        self._unsettled: dict[str, Leaving] = {}
        """By volume: what the other host is to be asked about."""
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
                self._volumes.held.add(volume.name, "it may have left this host: its leaving.json is damaged")
                continue
            if note is not None:
                self._volumes.held.add(volume.name, _in_doubt(volume.name, note))
                self._unsettled[volume.name] = note

    def begin(self, name: str, host: str, *, force: bool = False) -> Departure:
        """The move begins, in a thread of its own. `force`: also where containers have it that do not run.

        Raises NotFound for a volume or a host that nobody knows, Conflict for one that is used, InvalidParameter for
        one without data of its own, Unavailable for a host that is away.
        """
        peer = self._peers.find(host)
        note = self._unsettled.get(name)
        if note is not None and self._settle(name):
            if note.node != peer.name:
                raise Conflict(f"volume {name} is on host {note.node}: move it from there")
            return _done(name, peer)
        try:
            volume = self._volumes.hold(
                name, f"it is on its way to host {peer.name}", partial(self._check, force=force)
            )
        except NotFound:
            if self._came(name, peer):
                return _done(name, peer)
            raise
        made = Departure(volume, peer, self._send_all)
        made.start()
        return made

    def _came(self, name: str, peer: Peer) -> bool:
        """Whether it is there, by an earlier move."""
        with closing(Sender(self._peers, peer, _new_move(), name)) as sender:
            return sender.came_from_here()

    def _check(self, volume: Volume, *, force: bool) -> None:
        """With the volume's lock."""
        name = volume.name
        if volume.driver != LOCAL:
            more = " and is on all hosts anyway" if volume.scope is Scope.GLOBAL else ""
            raise InvalidParameter(
                f"volume {name} is of the driver {volume.driver}{more}: only those of the driver local are moved"
            )
        if volume.options:
            raise InvalidParameter(
                f"volume {name} has no data of its own, but what its options mount: make it with the same options "
                "on the other host"
            )
        if users := self._volumes.mounted_by(name):
            raise Conflict(f"volume {name} is in use by {self._named(users)}: stop it first")
        if (users := self._volumes.use.of(name)) and not force:
            raise Conflict(
                f"volume {name} is in use by {self._named(users)}, which cannot start here without it: remove it "
                "first, or say --force"
            )
        if found := mounts_below(self._volumes.folder(name)):
            raise Conflict(f"volume {name}: {found[0]} is a mount: unmount it first")

    def _named(self, users: list[str]) -> str:
        """Containers by their names; who looks into one that does not run has another id."""
        found = []
        for ident in users:
            with suppress(CnmError):
                container = self._registry.get(ident)
                running = "running " if container.state.status.is_alive else ""
                found.append(f"{running}container {container.name}")
        return ", ".join(found) or "somebody who copies files"

    # In a departure's thread

    def _send_all(self, departure: Departure) -> None:
        """All of it. Raises CnmError; the volume is this host's then, or held where nobody knows."""
        volume, peer = departure.volume, departure.peer
        try:
            with closing(Sender(self._peers, peer, departure.move, volume.name)) as sender:
                self._send(departure, sender)
        except BaseException:
            if volume.name not in self._unsettled:
                self._volumes.held.drop(volume.name)
            raise

    def _send(self, departure: Departure, sender: Sender) -> None:
        volume = departure.volume
        path = self._volumes.path(volume)
        departure.total = space(path)
        sender.offer(
            Offer(
                name=volume.name,
                created=volume.created,
                labels=dict(volume.labels) if volume.labels is not None else None,
                space=departure.total,
            )
        )
        sender.content(departure.watched(TreeReader(path, departure.count).frames()))
        departure.check_wanted()
        self._commit(departure, sender)

    def _commit(self, departure: Departure, sender: Sender) -> None:
        """From now on the other host decides."""
        name, peer = departure.volume.name, departure.peer
        note = Leaving(move=departure.move, node=peer.name, address=peer.address)
        try:
            notes.note_leaving(self._volumes.folder(name), note)
        except OSError as error:
            raise CnmError(f"volume {name}: {error.filename}: {(error.strerror or '').lower()}") from None
        try:
            sender.commit()
        except BaseException as error:
            self._volumes.held.change(name, _in_doubt(name, note))
            self._unsettled[name] = note
            if not isinstance(error, CnmError) or not self._settle(name):
                raise
            return
        self._arrived(name)
        self._confirm(sender)

    # What nobody knows yet

    def settle_all(self) -> None:
        """As far as other hosts answer; seldom where they do not."""
        if not self._unsettled or time.monotonic() < self._next_try:
            return
        for name, note in list(self._unsettled.items()):
            try:
                self._settle(name)
                self._pause = _PAUSES[0]
            except CnmError as error:
                log.info("whether volume %s is on host %s is not known yet: %s", name, note.node, error)
                self._pause = min(2 * self._pause, _PAUSES[1])
        self._next_try = time.monotonic() + self._pause

    def _settle(self, name: str) -> bool:
        """Whether it has left. Raises Unavailable where nobody can say it."""
        with self._settling:
            if (note := self._unsettled.get(name)) is None:
                return False
            try:
                arrived = self._ask(name, note)
            except CnmError as error:
                raise Unavailable(
                    f"whether volume {name} is on host {note.node} is not known, and nobody uses it here until it is: "
                    f"{error}"
                ) from None
            if not arrived:
                self._stays(name, note)
            return arrived

    def _ask(self, name: str, note: Leaving) -> bool:
        try:
            peer = Peer(note.node, self._peers.known(note.node)["Address"])
        except NotFound:
            log.warning("host %s is no node of the cluster any more: volume %s stays here", note.node, name)
            return False
        except CnmError:  # cnmd is away, or the cluster
            peer = Peer(note.node, note.address)
        with closing(Sender(self._peers, peer, note.move, name)) as sender:
            arrived = sender.settle()
            if arrived:
                self._arrived(name)
                self._confirm(sender)
            return arrived

    def _confirm(self, sender: Sender) -> None:
        """The other host need not remember. It does no harm if it does."""
        with suppress(CnmError):
            sender.confirm()

    def _arrived(self, name: str) -> None:
        """Here it goes. What cannot be deleted is told, and tried again at the next start."""
        try:
            self._volumes.hand_over(name)
        except NotFound:
            pass
        except CnmError as error:
            log.error("volume %s is on the other host, and its files here are left: %s", name, error)
        self._forget(name)

    def _stays(self, name: str, note: Leaving) -> None:
        try:
            notes.forget_leaving(self._volumes.folder(name))
        except OSError as error:
            raise CnmError(f"volume {name} stays here: {error.filename}: {error.strerror}") from None
        log.info("volume %s has not come to host %s: it stays here", name, note.node)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._unsettled.pop(name, None)
        self._volumes.held.drop(name)


class _End(NamedTuple):
    failure: CnmError | None = None


class Departure:
    """One volume that leaves, in a thread of its own."""

    def __init__(self, volume: Volume, peer: Peer, send: Callable[[Departure], object]) -> None:
        """`send` does it, and raises CnmError."""
        self.volume, self.peer = volume, peer
        self.move = _new_move()
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
        yield progress.message(f"Moving to {self.peer.name}", name)
        try:
            while not self._ended.wait(_BEAT_SECONDS):
                if self._sent != told and self.total:
                    told = self._sent
                    yield progress.of_layer("Moving", name, min(told, self.total), self.total)
                else:
                    yield None
        finally:
            self._given_up.set()
            if not self._ended.is_set():
                log.info("volume %s: nobody waits for its move any more", name)
        if self._end.failure is not None:
            raise self._end.failure
        yield progress.message(f"Moved to {self.peer.name}", name)

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


def _done(name: str, peer: Peer) -> Departure:
    """It had arrived before."""
    made = Departure(Volume(name=name), peer, lambda departure: None)
    made.start()
    return made


def _new_move() -> str:
    return secrets.token_hex(32)


def _in_doubt(name: str, note: Leaving) -> str:
    return f"whether it is on host {note.node} is not known yet: end that with 'cnmctl volume move {name} {note.node}'"
