"""The host that a volume comes to: it is received beside the volumes, and becomes one in one step when it is whole.

Whether a move has come to its end is known here, and here alone: until the folder has the volume's name, the volume is
its source's, and from then on it is not. A source that lost the connection asks (`settle`), and is told for good: what
had not become a volume by then never will.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
from contextlib import suppress
from enum import Enum
from typing import BinaryIO

import msgspec

from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.kernel import mounting
from cnm.launcher.deleting import delete
from cnm.launcher.moving import frames, notes
from cnm.launcher.moving.notes import Arrival
from cnm.launcher.moving.tree_write import write_tree
from cnm.launcher.volumes.local import check_name
from cnm.launcher.volumes.volume import Volume
from cnm.launcher.volumes.volumes import Volumes

log = logging.getLogger("cnm.launcher")

_ARRIVING = ".arriving-"
"""Beginning of the names, among the volumes' folders, of what comes."""
_MOVE = re.compile(r"[0-9a-f]{64}")
_IDLE_SECONDS = 60.0
"""After which what nobody goes on with is dropped."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a source says first; fields that are not known here are of a newer version."""

    name: str
    created: int = 0
    labels: dict[str, str] | None = None
    space: int = 0
    """Bytes that it takes of the disk there."""


class _State(Enum):
    OFFERED = "offered"
    COMING = "coming"
    WHOLE = "whole"


class _Coming:
    """One volume on its way."""

    def __init__(self, offer: Offer, source: str) -> None:
        self.offer = offer
        self.source = source
        self.state = _State.OFFERED
        self.since = time.monotonic()
        self.dropped = False
        """Nobody wants it any more; whoever receives it cleans up."""


class Arriving:
    """Thread-safe. `source` is always the node whose certificate was shown."""

    def __init__(self, place: str, volumes: Volumes) -> None:
        """`place` is the folder of all volumes."""
        self._place = place
        self._volumes = volumes
        self._lock = threading.Lock()
        self._coming: dict[str, _Coming] = {}
        """By move."""

    def load(self) -> None:
        """After the volumes: what was not whole goes, and of what came before a kill the source can be told."""
        for name in os.listdir(self._place):
            if name.startswith(_ARRIVING):
                log.info(
                    "volume of move %s had not arrived wholly: it goes", name.removeprefix(_ARRIVING)[:12]
                )
                self._delete(name)
        for volume in self._volumes.recorded():
            note = self._arrival(volume.name)
            if note is not None and not note.settled:
                self._mark(note.move, note.source)

    # What a source asks for, in this order

    def offer(self, move: str, source: str, offer: Offer) -> None:
        """Raises Conflict where the name is taken, Unavailable where the disk is too full, InvalidParameter."""
        _check_move(move)
        check_name(offer.name)
        self._volumes.check_new(offer.name)
        self._check_space(offer)
        with self._lock:
            self._check_free(offer.name, source)
            folder = self._folder(move)
            try:
                os.mkdir(folder, 0o711)
                os.mkdir(os.path.join(folder, "_data"), 0o755)
            except OSError as error:
                self._delete(os.path.basename(folder))
                raise _failed(offer.name, error) from None
            self._coming[move] = _Coming(offer, source)

    def _check_space(self, offer: Offer) -> None:
        status = os.statvfs(self._place)
        free = status.f_bavail * status.f_frsize
        if offer.space > free:
            raise Unavailable(
                f"no space left on device: volume {offer.name} takes {_mebibytes(offer.space)}, and "
                f"{_mebibytes(free)} are free in {self._place}"
            )

    def _check_free(self, name: str, source: str) -> None:
        """Who begins anew has given up what it had begun before."""
        for move, coming in list(self._coming.items()):
            if coming.offer.name == name:
                if coming.source != source:
                    raise Conflict(f"volume {name} is on its way from {coming.source}")
                self._drop_locked(move)

    def receive(self, move: str, source: str, stream: BinaryIO) -> None:
        """All of its content; it is on the disk when this returns. Raises CnmError; nothing is left then."""
        coming = self._begin(move, source)
        folder = self._folder(move)
        try:
            self._write(coming, move, folder, stream)
        except (OSError, ValueError) as error:
            self._give_up(move)
            raise _failed(coming.offer.name, error) from None
        except BaseException:
            self._give_up(move)
            raise
        with self._lock:
            coming.state, coming.since = _State.WHOLE, time.monotonic()
            if coming.dropped:
                self._forget_locked(move)

    def _begin(self, move: str, source: str) -> _Coming:
        with self._lock:
            coming = self._expected(move, source, _State.OFFERED)
            coming.state = _State.COMING
            return coming

    def _write(self, coming: _Coming, move: str, folder: str, stream: BinaryIO) -> None:
        write_tree(os.path.join(folder, "_data"), frames.unpacked(stream))
        notes.note_arrival(folder, Arrival(move=move, source=coming.source))
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounting.sync(directory)
        finally:
            os.close(directory)

    def commit(self, move: str, source: str) -> None:
        """It is a volume of this host's when this returns. Raises NotFound, Conflict, CnmError."""
        with self._lock:
            coming = self._expected(move, source, _State.WHOLE)
            offer = coming.offer
            volume = Volume(name=offer.name, created=offer.created, labels=offer.labels)
            self._volumes.take_in(volume, _ARRIVING + move)
            del self._coming[move]
            self._mark(move, source)
        log.info("volume %s has arrived from %s", offer.name, source)

    def settle(self, move: str, source: str, name: str) -> bool:
        """Whether it has become a volume of this host's; if not, it never will. Raises Forbidden as `confirm`."""
        _check_move(move)
        with self._lock:
            if self._marked(move) is not None or self._noted(move, name):
                return True
            if coming := self._coming.get(move):
                _check_source(move, coming.source, source)
                self._drop_locked(move)
            return False

    def confirm(self, move: str, source: str, name: str) -> None:
        """The source knows that it is here, and is never told again. Raises Forbidden where somebody else says so.

        A move of which nothing is known is fine.
        """
        _check_move(move)
        with self._lock:
            note = self._noted(move, name)
            origin = note.source if note else self._marked(move)
            if origin is None:
                return
            _check_source(move, origin, source)
            with suppress(OSError):
                if note is not None:
                    settled = msgspec.structs.replace(note, settled=True)
                    notes.note_arrival(self._volumes.folder(name), settled)
                notes.forget_arrived(self._place, move)

    def came_from(self, name: str) -> str:
        """The node that a volume of this host's came from, "" for any other, and where there is none."""
        note = self._arrival(name)
        return note.source if note else ""

    # Given up

    def sweep(self) -> None:
        """What nobody has gone on with for long goes."""
        before = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            for move, coming in list(self._coming.items()):
                if coming.state is not _State.COMING and coming.since < before:
                    log.info("volume %s does not come from %s any more", coming.offer.name, coming.source)
                    self._drop_locked(move)

    def _expected(self, move: str, source: str, state: _State) -> _Coming:
        coming = self._coming.get(move)
        if coming is None or coming.source != source or coming.state is not state or coming.dropped:
            raise NotFound(f"no volume is on its way here as {move[:12]}: begin anew")
        return coming

    def _give_up(self, move: str) -> None:
        with self._lock:
            self._forget_locked(move)

    def _drop_locked(self, move: str) -> None:
        coming = self._coming[move]
        coming.dropped = True
        if coming.state is not _State.COMING:
            self._forget_locked(move)

    def _forget_locked(self, move: str) -> None:
        self._coming.pop(move, None)
        self._delete(_ARRIVING + move)

    def _delete(self, folder: str) -> None:
        try:
            delete(os.path.join(self._place, folder))
        except OSError as error:
            log.error("%s cannot be deleted: %s", folder, error)

    def _arrival(self, name: str) -> Arrival | None:
        try:
            return notes.arrival(self._volumes.folder(name))
        except (CnmError, OSError, msgspec.DecodeError) as error:
            log.error("volume %s: where it came from cannot be read: %s", name, error)
            return None

    def _noted(self, move: str, name: str) -> Arrival | None:
        """What the volume itself says of the move that it came by."""
        note = self._arrival(name)
        return note if note is not None and note.move == move else None

    def _folder(self, move: str) -> str:
        return os.path.join(self._place, _ARRIVING + move)

    def _mark(self, move: str, source: str) -> None:
        """Whatever becomes of the volume, its source is told that it came. A disk that takes no more does not matter:
        the volume says it, too."""
        try:
            notes.mark_arrived(self._place, move, source)
        except OSError as error:
            log.error("that volume of move %s has come is not marked: %s", move[:12], error.strerror)

    def _marked(self, move: str) -> str | None:
        """The source of one that came, and that may not know of it yet. Raises CnmError."""
        try:
            return notes.arrived_from(self._place, move)
        except OSError as error:
            raise CnmError(f"{error.filename}: {(error.strerror or '').lower()}") from None


def _check_move(move: str) -> None:
    if not _MOVE.fullmatch(move):
        raise InvalidParameter("a move has 64 hex digits")


def _check_source(move: str, source: str, asks: str) -> None:
    """Raises Forbidden where another node asks than the one that the volume comes from."""
    if asks != source:
        raise Forbidden(f"move {move[:12]} is not of {asks}")


def _failed(name: str, error: Exception) -> CnmError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"no space left on device: volume {name} does not fit there")
    why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    about = f"{os.fsdecode(error.filename)}: " if isinstance(error, OSError) and error.filename else ""
    return CnmError(f"volume {name} was not received: {about}{why.lower()}")


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
