"""What a move notes down in a volume's folder, on both hosts: with the volume it goes, and no power cut takes it away.

The host that a volume leaves writes `leaving.json` before it has the other one commit, and asks that one what has
become of it for as long as it is there. The host where it arrives has `arrival.json` in the folder before that becomes
the volume's by one rename: from this moment on the volume is there, and nowhere else. Beside the volumes that host has
`.arrived-MOVE`, with the source's name in it, until the source knows: whatever becomes of the volume meanwhile.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TypeVar

import msgspec

from cnm.launcher.volumes.records import flush

_LEAVING, _ARRIVAL, _ARRIVED = "leaving.json", "arrival.json", ".arrived-"
N = TypeVar("N", bound=msgspec.Struct)


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the volume has come to `node` is not known here, or it has and could not be deleted here."""

    move: str
    """64 hex digits."""
    node: str
    address: str
    """Where that node was, bare."""
    has_arrived: bool = False
    """It has said so, and what is left to do is done here."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """Where the volume came from."""

    move: str
    source: str
    """A node's name."""
    settled: bool = False
    """The source knows that it is here."""


def leaving(folder: str) -> Leaving | None:
    """None where there is none. Raises OSError, msgspec.DecodeError."""
    return _read(os.path.join(folder, _LEAVING), Leaving)


def arrival(folder: str) -> Arrival | None:
    """The same."""
    return _read(os.path.join(folder, _ARRIVAL), Arrival)


def note_leaving(folder: str, note: Leaving) -> None:
    """It is on the disk when this returns. Raises OSError."""
    _write(os.path.join(folder, _LEAVING), note)


def note_arrival(folder: str, note: Arrival) -> None:
    _write(os.path.join(folder, _ARRIVAL), note)


def forget_leaving(folder: str) -> None:
    """One that is not there is fine. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, _LEAVING))
        flush(folder)


def mark_arrived(place: str, move: str, source: str) -> None:
    """It is on the disk when this returns. Raises OSError."""
    with open(_marker(place, move), "w", encoding="utf-8", opener=_private) as file:
        file.write(source)
        file.flush()
        os.fsync(file.fileno())
    flush(place)


def arrived_from(place: str, move: str) -> str | None:
    """The source of a move that is marked; "" where the disk did not take its name."""
    try:
        with open(_marker(place, move), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def forget_arrived(place: str, move: str) -> None:
    """One that is not there is fine. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(_marker(place, move))


def _marker(place: str, move: str) -> str:
    return os.path.join(place, _ARRIVED + move)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: str, kind: type[N]) -> N | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=kind)
    except FileNotFoundError:
        return None


def _write(path: str, note: msgspec.Struct) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(msgspec.json.encode(note))
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
    flush(os.path.dirname(path))
