"""podman asking registries, with the password of whoever asks in a file that nobody else reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cnm.launcher.podman import Podman, failure
from cnm.launcher.registries import Credentials
from cnm.launcher.transfer import Transfer, TransferFailed


class Asker(NamedTuple):
    """Who asks which registry: HOST[:PORT], or "docker.io"."""

    registry: str
    credentials: Credentials


class RegistryClient:
    """Thread-safe."""

    def __init__(self, podman: Podman, scratch: str) -> None:
        """`scratch`: a directory for what lives as long as a request."""
        self._podman = podman
        self._scratch = scratch

    @contextmanager
    def pulling(self, asker: Asker, *arguments: str) -> Iterator[Transfer]:
        """Of one image, the last argument; it is in the store when all of it was read. Raises Unavailable."""
        with self.place() as place, self._transfer(place, "pull", asker, *arguments) as transfer:
            yield transfer

    @contextmanager
    def pushing(self, asker: Asker, name: str) -> Iterator[tuple[Transfer, str]]:
        """With the file that has the digest of the manifest at the end. Raises Unavailable."""
        with self.place() as place:
            digest = os.path.join(place, "digest")
            with self._transfer(place, "push", asker, "--digestfile", digest, name) as transfer:
                yield transfer, digest

    @contextmanager
    def loading(self, place: str, archive: str) -> Iterator[Transfer]:
        """Of a file, not a registry; `place` is for what podman writes meanwhile. Raises CnmError."""
        env = {**self._podman.environment(), "TMPDIR": place}
        with Transfer(self._podman.command("load", "--input", archive), env) as transfer:
            try:
                yield transfer
            except TransferFailed as error:
                raise failure("load", str(error)) from None

    def ask(self, verb: str, asker: Asker, *arguments: str, given: str = "") -> str:
        """What podman prints; `given` is its input. Raises CnmError in podman's words."""
        with self.place() as place:
            return self._podman.run(verb, "--authfile", _written(place, asker), *arguments, given=given)

    def _transfer(self, place: str, verb: str, asker: Asker, *arguments: str) -> Transfer:
        command = self._podman.command(verb, "--authfile", _written(place, asker), *arguments)
        return Transfer(command, {**self._podman.environment(), "TMPDIR": place})

    @contextmanager
    def place(self) -> Iterator[str]:
        """A directory that lives as long as the block, for what is big."""
        place = tempfile.mkdtemp(dir=self._scratch)
        try:
            yield place
        finally:
            shutil.rmtree(place)


def _written(place: str, asker: Asker) -> str:
    path = os.path.join(place, "auth.json")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(asker.credentials.file(asker.registry))
    return path
