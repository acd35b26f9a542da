"""Builds that were done: the same one again is answered from what it made, without asking podman step by step.

A build is the same where its Dockerfile, its arguments, its context's files and the images that it begins with are.
Everything that it made must be in the store still. What a step fetches from elsewhere is not known: a build with such
a step is not remembered. (Docker's cache asks for no more; podman's takes about 100 ms for each step.)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Collection, Iterator

import msgspec

from cnm.errors import CnmError
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.request import BuildRequest

_MOST = 1000
_PIECE = 1 << 20
_UNFINISHED = ".new"
"""End of the names of files that are being written."""
_REMOTE = ("http://", "https://", "ftp://", "git://", "git@")


class Remembered(msgspec.Struct, frozen=True):
    """What a build made."""

    results: tuple[str, ...]
    """Hex digits of the image behind each step but the first ARGs; "" behind `FROM scratch`."""
    warnings: tuple[str, ...]
    """What was said at its end."""


class Memory:
    """One file for each build, in `folder`. Thread-safe."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def recall(self, key: str, images: Collection[str]) -> Remembered | None:
        """`images`: the hex digits of all that are there."""
        try:
            with open(self._path(key), "rb") as file:
                found = msgspec.json.decode(file.read(), type=Remembered)
        except (OSError, msgspec.DecodeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(self._path(key))
        return found if all(image in images for image in found.results if image) else None

    def keep(self, key: str, made: Remembered) -> None:
        """The same build may be kept by others at the same time. Raises CnmError where it cannot be written."""
        path = self._path(key)
        try:
            self._write(path, msgspec.json.encode(made))
            self._drop_old()
        except OSError as error:
            raise CnmError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None

    def _write(self, path: str, content: bytes) -> None:
        unfinished, own = tempfile.mkstemp(_UNFINISHED, dir=self._folder)
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
            os.rename(own, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(own)
            raise

    def settle(self) -> None:
        """Only while nobody keeps anything: what a launcher that was killed has left unfinished goes."""
        for entry in os.scandir(self._folder):
            if entry.name.endswith(_UNFINISHED):
                os.unlink(entry.path)

    def clear(self) -> tuple[list[str], int]:
        """(keys, bytes) of what was forgotten."""
        keys, space = [], 0
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError):
                space += entry.stat().st_size
                os.unlink(entry.path)
                keys.append(entry.name)
        return keys, space

    def _entries(self) -> list[os.DirEntry[str]]:
        return [entry for entry in os.scandir(self._folder) if not entry.name.endswith(_UNFINISHED)]

    def _drop_old(self) -> None:
        entries = self._entries()
        if len(entries) > _MOST:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(min(entries, key=lambda entry: entry.stat().st_mtime_ns).path)

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, key)


def key(recipe: Recipe, request: BuildRequest, context: str) -> str:
    """64 hex digits; "" for a build that is not to be remembered. `context` is the directory of its files."""
    if request.no_cache or request.pull or request.squash or not _is_known(recipe):
        return ""
    found = hashlib.sha256()
    about = (recipe.text, sorted(request.arguments.items()), request.platform, recipe.sources)
    found.update(msgspec.json.encode(about))
    for piece in _described(context):
        found.update(piece)
    return found.hexdigest()


def _is_known(recipe: Recipe) -> bool:
    if not all(recipe.sources.values()) or recipe.has_triggers:
        return False
    steps = (step for stage in recipe.dockerfile.stages for step in stage.steps if step.word == "ADD")
    return not any(
        each.startswith(_REMOTE) or "$" in each for step in steps for each in _sources(step.arguments)
    )


def _sources(arguments: str) -> list[str]:
    try:
        return msgspec.json.decode(arguments, type=list[str])
    except msgspec.DecodeError:
        return arguments.split()


def _described(context: str) -> Iterator[bytes]:
    """Everything that a build can see of its files, capabilities too; times it cannot (Docker's rule)."""
    for folder, folders, files in os.walk(context):
        folders.sort()
        for name in sorted([*files, *folders]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            about = (
                os.path.relpath(path, context),
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                _attributes(path),
            )
            yield repr(about).encode("utf-8", "surrogateescape")
            if stat.S_ISLNK(status.st_mode):
                yield os.fsencode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                yield _digest(path)


def _attributes(path: str) -> list[tuple[str, bytes]]:
    """The extended ones, where its file system has any."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)]
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return []


def _digest(path: str) -> bytes:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.digest()
