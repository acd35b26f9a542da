"""The host that a volume leaves: it sends all of it, has the other host commit, and deletes its own when that has.

Before the commit nothing here has changed. Behind it the volume is held, on the disk too, until the other host has said
whether it came: `settling.py`.
"""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from cnm.launcher.disk import refusal
from cnm.launcher.moving import notes
from cnm.launcher.moving.arriving import Offer
from cnm.launcher.moving.departure import Departure, done, new_move
from cnm.launcher.moving.notes import Leaving
from cnm.launcher.moving.peers import ClusterPeers, Peer
from cnm.launcher.moving.sender import Sender
from cnm.launcher.moving.settling import Settling
from cnm.launcher.moving.tree_read import TreeReader, space
from cnm.launcher.registry import Registry
from cnm.launcher.volumes.drivers import LOCAL, Scope
from cnm.launcher.volumes.mounted import mounts_below
from cnm.launcher.volumes.volume import Volume
from cnm.launcher.volumes.volumes import Volumes


class Departures:
    """Thread-safe."""

    def __init__(self, volumes: Volumes, registry: Registry, peers: ClusterPeers, settling: Settling) -> None:
        self._volumes = volumes
        self._registry = registry
        self._peers = peers
        self._settling = settling

    def begin(self, name: str, host: str, *, force: bool = False) -> Departure:
        """The move begins, in a thread of its own. `force`: also where containers have it that do not run.

        Raises NotFound for a volume or a host that nobody knows, Conflict for one that is used, InvalidParameter for
        one without data of its own, Unavailable for a host that is away.
        """
        left = self._settling.settle(name)
        peer = self._peers.find(host)
        if left is not None:
            if left.node != peer.name:
                raise Conflict(f"volume {name} is on host {left.node}: move it from there")
            return done(name, peer)
        try:
            volume = self._volumes.hold(
                name, f"it is on its way to host {peer.name}", partial(self._check, force=force)
            )
        except NotFound:
            if self._came(name, peer):
                return done(name, peer)
            raise
        made = Departure(volume, peer, self._send_all)
        made.start()
        return made

    def _came(self, name: str, peer: Peer) -> bool:
        """Whether it is there, by an earlier move."""
        with closing(Sender(self._peers, peer, new_move(), name)) as sender:
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
            if not self._settling.is_open(volume.name):
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
        folder = self._volumes.folder(name)
        try:
            notes.note_leaving(folder, note)
        except OSError as error:
            with suppress(OSError):
                notes.forget_leaving(folder)
            raise CnmError(f"volume {name}: {refusal(error, folder)}") from None
        try:
            sender.commit()
        except CnmError:
            if not self._settling.ask(name, note):
                raise
        except BaseException:
            self._settling.open(name, note)
            raise
        else:
            self._settling.arrived(name, note, sender)
