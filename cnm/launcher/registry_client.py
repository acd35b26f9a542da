"""podman asking registries, with the password of whoever asks in a file that nobody else reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, NamedTuple

from cnm.errors import CnmError
from cnm.launcher.children import Child
from cnm.launcher.podman import Podman, Source, failure, last_words
from cnm.launcher.registries import Credentials
from cnm.launcher.transfer import Transfer, TransferFailed

_BEAT_SECONDS = 0.5
_CHUNK = 1 << 20
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""A registry may never answer: who asks it without a terminal, which would hang up, does not outlive the launcher."""


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
        with self.place() as place:
            env = self._podman.environment_from(Source.REGISTRY, place)
            with Transfer(self._command(place, "pull", asker, *arguments), env) as transfer:
                yield transfer

    @contextmanager
    def pushing(self, asker: Asker, name: str) -> Iterator[tuple[Transfer, str]]:
        """With the file that has the digest of the manifest at the end. Raises Unavailable."""
        with self.place() as place:
            digest = os.path.join(place, "digest")
            command = self._command(place, "push", asker, "--digestfile", digest, name)
            with Transfer(command, {**self._podman.environment(), "TMPDIR": place}) as transfer:
                yield transfer, digest

    @contextmanager
    def loading(self, place: str, archive: str) -> Iterator[Transfer]:
        """Of a file, not a registry; `place` is for what podman writes meanwhile. Raises CnmError."""
        command = self._podman.command("load", "--input", archive)
        with Transfer(command, self._podman.environment_from(Source.DISK, place)) as transfer:
            try:
                yield transfer
            except TransferFailed as error:
                raise failure("load", str(error)) from None

    def saving(self, *names: str) -> Iterator[bytes]:
        """An archive of images, as it is written; it ends where the iterator is closed. Raises CnmError."""
        command = self._podman.command("save", "--multi-image-archive", "--format", "docker-archive", *names)
        with self.place() as place, tempfile.TemporaryFile(dir=place) as errors:
            with self._child(place, command, stdout=subprocess.PIPE, stderr=errors) as child:
                while piece := child.stdout.read(_CHUNK):
                    yield piece
                code = child.wait()
            if code != 0:
                raise failure("save", last_words(_content(errors)))

    def asking(self, verb: str, asker: Asker, *arguments: str, given: str = "") -> Generator[None, None, str]:
        """What podman prints, None now and then before; `given` is its input. It ends where the generator is closed.

        Raises CnmError, its last words.
        """
        with self.place() as place, _files(3) as (given_file, output, errors):
            given_file.write(given.encode())
            given_file.seek(0)
            command = self._command(place, verb, asker, *arguments)
            with self._child(place, command, stdin=given_file, stdout=output, stderr=errors) as child:
                while not child.has_ended(_BEAT_SECONDS):
                    yield
                code = child.wait()
            if code != 0:
                raise CnmError(last_words(_content(errors)))
            return _content(output).strip()

    def _child(self, place: str, command: Sequence[str], **streams: IO[bytes] | int) -> Child:
        env = {**self._podman.environment(), "TMPDIR": place}
        return Child([*_ENDS_WITH_US, *command], env, **{"stdin": subprocess.DEVNULL, **streams})

    def _command(self, place: str, verb: str, asker: Asker, *arguments: str) -> list[str]:
        return self._podman.command(verb, "--authfile", _written(place, asker), *arguments)

    @contextmanager
    def place(self) -> Iterator[str]:
        """A directory that lives as long as the block, for what is big. Raises CnmError where it cannot be made."""
        try:
            place = tempfile.mkdtemp(dir=self._scratch)
        except OSError as error:
            raise _unwritten(self._scratch, error) from None
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)  # what stays goes at the next start


def _written(place: str, asker: Asker) -> str:
    """Raises CnmError."""
    path = os.path.join(place, "auth.json")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(asker.credentials.file(asker.registry))
    except OSError as error:
        raise _unwritten(path, error) from None
    return path


def _unwritten(path: str, error: OSError) -> CnmError:
    return CnmError(f"cannot write {path}: {(error.strerror or str(error)).lower()}")


@contextmanager
def _files(count: int) -> Iterator[list[IO[bytes]]]:
    """In memory, since one of them may hold a password."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(open(os.memfd_create("registry", os.MFD_CLOEXEC), "w+b"))
            for _ in range(count)
        ]


def _content(file: IO[bytes]) -> str:
    """All that a child has written to it."""
    file.seek(0)
    return file.read().decode(errors="replace")
