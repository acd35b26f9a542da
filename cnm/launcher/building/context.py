"""The files that a client sends with a build: a tar, compressed or not, laid out in a directory."""

from __future__ import annotations

import errno
import os
from typing import BinaryIO

from cnm.errors import CnmError, InvalidParameter
from cnm.ignored_files import NAME, IgnoredFiles
from cnm.kernel.openat2 import open_in_root
from cnm.launcher.layer_blob import decompressed
from cnm.launcher.scope import in_scope
from cnm.launcher.unpacking import Rules, Unpacker

DEFAULT = "Dockerfile"
_CLIENTS = (errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
"""What is wrong with names and kinds of files."""
_LONGEST = 16 * 1024 * 1024
"""Bytes of a Dockerfile."""


class Context:
    """A directory with what was sent; symlinks in it never lead out."""

    def __init__(self, path: str) -> None:
        self.path = path

    def fill(self, archive: BinaryIO) -> None:
        """`path` is there. Raises InvalidParameter for what is no sound tar."""
        root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with decompressed(archive) as stream:
                Unpacker(root, "/", Rules()).unpack(stream)
        finally:
            os.close(root)

    def dockerfile(self, name: str) -> str:
        """The text of a file; the default one may be called `dockerfile`, too.

        Raises InvalidParameter in Docker's words, CnmError where it cannot be read.
        """
        if "\0" in name:
            raise InvalidParameter(f"no file can be called {name!r}")
        candidates = (name, name.lower()) if name == DEFAULT else (name,)
        for candidate in candidates:
            try:
                text = self._content(candidate).decode()
                self._drop_ignored(candidate)
                return text
            except (FileNotFoundError, NotADirectoryError):
                continue
            except UnicodeDecodeError:
                raise InvalidParameter(f"the Dockerfile ({candidate}) is no text") from None
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                is_clients = error.errno in _CLIENTS
                raise (InvalidParameter if is_clients else CnmError)(
                    f"failed to open {candidate}: {why}"
                ) from None
        raise InvalidParameter(f"Cannot locate specified Dockerfile: {name}")

    def _drop_ignored(self, dockerfile: str) -> None:
        """A client sends both of these whatever the patterns say, for the daemon to read; steps do not see them."""
        try:
            lines = self._content(NAME).decode("utf-8-sig", "surrogateescape").splitlines()
            ignored = IgnoredFiles(lines)
        except (OSError, InvalidParameter):  # there is none, or nothing is in it
            return
        for name in filter(ignored.holds, (dockerfile, NAME)):
            path = in_scope(self.path, name)
            if os.path.isfile(path):
                os.unlink(path)

    def _content(self, name: str) -> bytes:
        root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = open_in_root(root, name.lstrip("/") or ".", os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root)
        try:
            with open(file, "rb", closefd=False) as stream:  # it refuses a directory, and leaves that open
                content = stream.read(_LONGEST)
        finally:
            os.close(file)
        if not content:
            raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
        return content
