"""Who has a volume mounted: a file by each user's id in the volume's folder, so that no crash forgets it.

The time of the folder is when the last one came or went: when the volume was used last.
"""

from __future__ import annotations

import contextlib
import os

from cnm.errors import CnmError
from cnm.launcher.disk import refusal
from cnm.launcher.volumes.records import flush


class Users:
    """Of one place of volumes. Callers hold the volume's lock."""

    def __init__(self, place: str) -> None:
        self._place = place

    def of(self, folder: str) -> list[str]:
        """Ids of containers; `folder` is the volume's, below the place."""
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []

    def add(self, folder: str, user: str, *, durable: bool) -> None:
        """`durable`: it is on the disk when this returns, for what a power cut does not undo. Raises CnmError."""
        path = self._path(folder)
        try:
            is_first = not os.path.isdir(path)
            os.makedirs(path, mode=0o700, exist_ok=True)
            os.close(os.open(os.path.join(path, user), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            if durable:
                flush(path)
            if durable and is_first:  # a name is on the disk when the folders above it are, too
                flush(os.path.dirname(path))
                flush(self._place)
        except OSError as error:
            raise CnmError(f"cannot write {refusal(error, path)}") from None

    def drop(self, folder: str, user: str) -> None:
        """One that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._path(folder), user))

    def last_use(self, folder: str) -> int:
        """Nanoseconds since 1970; 0 where nobody has used it."""
        try:
            return os.stat(self._path(folder)).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _path(self, folder: str) -> str:
        return os.path.join(self._place, folder, "users")
