"""What a move notes down in a volume's folder, on both hosts: with the volume it goes, and no power cut takes it away.

The host that a volume leaves writes `leaving.json` before it has the other one commit, and asks that one what has
become of it for as long as it is there. The host where it arrives has `arrival.json` in the folder before that becomes
the volume's by one rename: from this moment on the volume is there, and nowhere else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TypeVar

import msgspec

from cnm.launcher.volumes.records import flush

_LEAVING, _ARRIVAL = "leaving.json", "arrival.json"
N = TypeVar("N", bound=msgspec.Struct)


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the volume has come to `node` is not known here."""

    move: str
    """64 hex digits."""
    node: str
    address: str
    """Where that node was, bare."""


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
