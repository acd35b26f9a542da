"""Where things are made before they get their place by one rename, and taken apart after they lost it.

It is on the file system of what it serves. A kill leaves a folder here that nobody holds, and the next start removes
it: nothing half-made is ever anywhere else.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from cnm.errors import Unavailable
from cnm.plugin.snapshots.locks import locked


class Staging:
    """Any number of processes use one at a time."""

    def __init__(self, root: str) -> None:
        self._root = root

    @contextmanager
    def folder(self) -> Iterator[str]:
        """The path of an empty folder, which goes at the end with whatever is in it."""
        while True:
            path = os.path.join(self._root, secrets.token_hex(8))
            os.mkdir(path, 0o711)
            with ExitStack() as held:
                try:
                    held.enter_context(locked(path, path))
                except FileNotFoundError:  # a sweep came first
                    continue
                try:
                    yield path
                finally:
                    shutil.rmtree(path, ignore_errors=True)
                return

    def sweep(self) -> None:
        """Remove what nobody holds."""
        for name in os.listdir(self._root):
            path = os.path.join(self._root, name)
            with suppress(FileNotFoundError, Unavailable), locked(path, path, seconds=0):
                shutil.rmtree(path, ignore_errors=True)
