"""Backups: tar archives of a volume or of a restore point, and volumes made or filled again from them."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress

from cnm.errors import Conflict, InvalidParameter, NotFound
from cnm.plugin.snapshots.points import LIVE, RestorePoints, Source
from cnm.plugin.snapshots.programs import flush_tree, pack, unpack
from cnm.plugin.snapshots.record import flush_names
from cnm.plugin.snapshots.volumes import Volumes, check_name, worded

STREAM = "-"
"""Instead of a file's name: the standard output, or input."""


def backup(points: RestorePoints, source: Source, path: str, *, live: bool = False) -> None:
    """The archive is at `path` when it is whole, and on the disk. Raises Conflict for a volume that is mounted."""
    about = f"backup of {source}"
    with points.content(source, live=live, hint=LIVE) as data:
        if path == STREAM:
            pack(data, STREAM, sys.stdout.buffer, about, live=live)
            return
        folder, name = os.path.split(os.path.abspath(path))
        partial = os.path.join(folder, f".{secrets.token_hex(4)}.{name}")
        with worded(f"{about} at {path}"):
            try:
                pack(data, partial, None, about, live=live)
                flush_tree(partial, about)
                os.rename(partial, path)
                flush_names(folder)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(partial)


def restore(volumes: Volumes, name: str, path: str) -> None:
    """The volume's content is what is in the archive, and nothing else; a volume that is not there is made.

    Raises Conflict while it is mounted; an archive that is no whole one changes nothing.
    """
    check_name("volume", name)
    if path != STREAM and not os.path.isfile(path):
        raise InvalidParameter(
            f"backup {path} is no file: give an archive, or {STREAM} for the standard input"
        )
    try:
        with volumes.replacing(name) as volume, volumes.staging.folder() as staged:
            data = os.path.join(staged, "data")
            _fill(path, data)
            volumes.replace(volume, data)
    except NotFound:
        _create(volumes, name, path)


def _create(volumes: Volumes, name: str, path: str) -> None:
    """Somebody may make one of this name while the archive is read."""
    if not volumes.create(name, lambda data: _fill(path, data)):
        raise Conflict(f"volume {name} was made by somebody else meanwhile: nothing is restored")


def _fill(path: str, data: str) -> None:
    os.mkdir(data, 0o755)
    unpack(path, sys.stdin.buffer if path == STREAM else None, data, f"backup {path}")
