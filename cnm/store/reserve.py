"""Room on the disk that is kept for what has to be written when there is none left: that something is gone."""

from __future__ import annotations

import contextlib
import os

_PIECE = 16 << 10
"""Bytes: little more than one transaction needs, since somebody else may be faster to take it."""
_PIECES = 256
"""As much as SQLite's log has before it goes into the database: 1000 pages of 4 KiB."""


class Reserve:
    """A file at `path`, whose blocks are given up piece by piece. Not thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pieces = 0

    @property
    def is_whole(self) -> bool:
        return self._pieces == _PIECES

    def fill(self) -> None:
        """As far as the disk has room. Never fails."""
        with contextlib.suppress(OSError), open(self._path, "ab") as file:
            self._pieces = min(os.fstat(file.fileno()).st_size // _PIECE, _PIECES)
            try:
                while not self.is_whole:
                    os.posix_fallocate(file.fileno(), self._pieces * _PIECE, _PIECE)
                    self._pieces += 1
            finally:
                file.truncate(self._pieces * _PIECE)

    def give_up(self) -> bool:
        """Whether there was a piece left. Never fails."""
        with contextlib.suppress(OSError):
            if not self._pieces:
                self._pieces = os.stat(self._path).st_size // _PIECE
            if self._pieces:
                os.truncate(self._path, (self._pieces - 1) * _PIECE)
                self._pieces -= 1
                return True
        return False
