"""A launcher on a small disk, a registry without TLS, and a wire between them that can stand still and be cut."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns_fixtures import Host
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.cut_wire import Wire, wire
from tests.support.launcher import Launcher
from tests.support.registry import Registry
from tests.support.registry_images import Put, layer, put_image
from tests.support.small_disk import small_disk
from tests.support.unpacked import environment

PROGRAMS = (*lab.PROGRAMS, *registries.PROGRAMS)
WIRE_PORT, PORT = 5001, 5000
LARGE = 4 << 20
ROOM = 64 << 20
"""Bytes of the disk that the launcher has for everything."""
_SETTINGS = f"""\
insecure-registries = ["127.0.0.1:{WIRE_PORT}"]
registry-mirrors = ["http://127.0.0.1:{PORT}"]
"""


@dataclass
class Stage:
    """A launcher on a small disk, and a registry that it reaches by a wire."""

    launcher: Launcher
    registry: Registry
    wire: Wire
    host: Host

    def name(self, image: str) -> str:
        return f"127.0.0.1:{WIRE_PORT}/{image}"

    def put(self, name: str, *layers: bytes) -> Put:
        return put_image(self.host, self.registry, name, "1", layers)

    def pull(self, image: str) -> str:
        return self.launcher.docker("pull", self.name(f"{image}:1"))

    def fails(self, image: str) -> str:
        return self.launcher.fails("pull", self.name(f"{image}:1"))[1]

    @property
    def storage(self) -> Path:
        return self.launcher.place / "root/launcher/storage"

    def folders(self) -> list[str]:
        """Of layers, known or not."""
        return [each for each in os.listdir(self.storage / "overlay") if len(each) == 64]

    def rest(self) -> tuple[list[str], list[str], list[str]]:
        """What is left when nothing is kept for a next pull any more."""
        self.launcher.docker("image", "prune", "-f")
        return self.left()

    def left(self) -> tuple[list[str], list[str], list[str]]:
        """Images, layers and files of requests in the store, sorted."""
        images = self.launcher.docker("images", "-aq", "--no-trunc").split()
        return sorted(images), sorted(self.folders()), sorted(os.listdir(self.storage / "incoming"))

    def clear(self) -> None:
        """Only busybox stays."""
        self.wire.cut()
        for line in self.launcher.docker("images", "--format", "{{.ID}} {{.Repository}}").splitlines():
            ident, _, repository = line.partition(" ")
            if repository != "busybox":
                self.launcher.docker("rmi", "-f", ident)


@contextmanager
def staged() -> Iterator[Stage]:
    with small_disk(ROOM) as place, lab.running(place, config=_SETTINGS) as launcher:
        host = getattr(launcher.cnmd.popen, "__self__")  # noqa: B009 - it is some host's `popen`
        plain = registries.running(place / "registry", host.popen, port=PORT, is_plain=True)
        with plain as registry, wire(host, WIRE_PORT, PORT) as made:
            yield Stage(launcher, registry, made, host)


def large(seed: bytes) -> bytes:
    """A layer that gzip cannot make smaller."""
    return layer(f"large-{seed.decode()}", os.urandom(LARGE))


class Client:
    """The docker CLI at something that lasts, in the background."""

    def __init__(self, stage: Stage, *arguments: str, stdin: int = subprocess.DEVNULL) -> None:
        self.process: subprocess.Popen[str] = subprocess.Popen(
            stage.launcher.command(*arguments),
            env=environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.communicate()

    def leave(self) -> None:
        self.process.kill()

    @property
    def goes_on(self) -> bool:
        return self.process.poll() is None

    def end(self) -> tuple[int, str]:
        """Exit code, and what it said."""
        said = self.process.communicate(timeout=60)[0]
        return self.process.returncode, said


def pulling(stage: Stage, image: str) -> Client:
    return Client(stage, "pull", stage.name(f"{image}:1"))


def podmans(stage: Stage, verb: str = "pull") -> list[int]:
    """Those that do this with the launcher's store."""
    place = str(stage.launcher.place)
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            words = [word.decode(errors="replace") for word in command]
            if words[0].endswith("/podman") and verb in words and any(place in word for word in words):
                found.append(int(folder.name))
    return found


def await_end(processes: list[int]) -> None:
    for process in processes:
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert poll.poll(30_000), f"podman {process} goes on"
        finally:
            os.close(descriptor)
