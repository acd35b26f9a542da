"""A daemon with containers of all sorts, and the clients that ask it: Docker's own and ours."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from netns_fixtures import Topology
from tests.docker.docker_lab import eventually
from tests.support.dockerd import make_image, start_dockerd
from tests.support.unpacked import environment, lacking, program

LONG = "a-container-with-a-name-that-is-much-longer-than-any-column-would-like-it-to-be"
Said = tuple[int, str, str]


class Daemon(Protocol):
    """Whoever speaks the Engine API: a dockerd, or the launcher."""

    @property
    def socket(self) -> object: ...

    def docker(self, *arguments: str) -> str:
        """What the docker CLI prints, stripped. Raises RuntimeError."""


class Client(NamedTuple):
    """A docker command and its major version."""

    path: str
    version: int


def clients() -> Iterator[tuple[Client, str]]:
    """Each with the reason for which it cannot be used, "" for none; the newest comes last."""
    lack = lacking("docker")
    yield Client("" if lack else str(program("docker")), 20), lack
    path = shutil.which("docker", path="/usr/local/bin:/usr/bin")
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout if path else ""
    found = re.search(r"version (\d+)", said)
    version = int(found[1]) if found else 0
    yield (
        Client(path or "", version),
        "" if version >= 28 else "no docker client of 28 or newer on this machine",
    )


@dataclass
class Stage:
    """One daemon with containers of all sorts."""

    daemon: Daemon
    newest: Client

    def cnmctl(self, *words: str, **options: Any) -> Said:
        return _said([*command_line(self), *words], **options)

    def docker(self, *words: str, client: Client | None = None, **options: Any) -> Said:
        """What the newest client there is says, or this one."""
        path = (client or self.newest).path
        return _said([path, "-H", f"unix://{self.daemon.socket}", *words], **options)


def _said(command: list[str], **options: Any) -> Said:
    done = subprocess.run(command, env=variables(), capture_output=True, timeout=60, check=False, **options)
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()


@contextmanager
def running_stage(place: Path) -> Iterator[Stage]:
    """`place` is for what dockerd keeps."""
    with (
        Topology({"hosts": {"host": {}}, "links": []}) as topology,
        start_dockerd(place, popen=topology.hosts["host"].popen) as daemon,
    ):
        make_image(daemon)
        with set_stage(daemon) as stage:
            yield stage


@contextmanager
def set_stage(daemon: Daemon) -> Iterator[Stage]:
    """Of a daemon that has the image busybox."""
    newest = [client for client, lack in clients() if not lack][-1]
    try:
        _make_containers(daemon)
        yield Stage(daemon, newest)
    finally:
        if left := daemon.docker("ps", "-aq").split():
            daemon.docker("rm", "--force", *left)
        daemon.docker("network", "rm", "web")


def _make_containers(daemon: Daemon) -> None:
    def run(name: str, *options: str, command: tuple[str, ...] = ("sleep", "100000")) -> None:
        daemon.docker("run", "--detach", "--name", name, *options, "busybox", *command)

    daemon.docker("network", "create", "--subnet", "10.77.0.0/24", "web")
    daemon.docker("tag", "busybox", "registry.example:5000/team/box:v1")
    run("plain", "--label", "tier=front", "--label", "a=<b>&c", "--env", "SHOWN=1")
    run(
        "ports",
        *("-p", "8080:80", "-p", "127.0.0.1:90-92:90-92", "-p", "5353:53/udp", "--expose", "7000-7002"),
        *("--network", "web", "--ip", "10.77.0.9", "--mount", "type=tmpfs,destination=/scratch"),
    )
    daemon.docker("network", "connect", "bridge", "ports")
    run("writer", command=("sh", "-c", 'echo one; echo two >&2; printf "three, no end"; exit 3'))
    run("healthy", "--health-cmd", "true", "--health-interval", "1s")
    run(LONG, "--network", "none", command=("sh", "-c", 'sleep 100000 # "quoted" \\ and\ttabbed'))
    run("terminal", "-t", command=("sh", "-c", "echo on a terminal; sleep 100000"))
    run("paused")
    daemon.docker("pause", "paused")
    daemon.docker("create", "--name", "created", "registry.example:5000/team/box:v1", "true")
    daemon.docker("exec", "plain", "sh", "-c", "mkdir -p /data; echo text >/data/file; rmdir /var")
    daemon.docker("wait", "writer")
    eventually(lambda: "(healthy)" in daemon.docker("ps", "--filter", "name=healthy"))


def comparable(said: Said, words: list[str], version: int) -> Said:
    """Without what cannot be the same twice, or is not about the command."""
    code, out, err = said
    err = re.sub(r"^(cnmctl|Error): ", "", err)
    err = re.sub(r"^time=.* level=error msg=.*\n", "", err, flags=re.MULTILINE)  # Docker's library logs, too
    if words[0] == "diff":  # dockerd walks a map
        out = "".join(sorted(out.splitlines(keepends=True)))
    if version < 28:  # which wrote IPv6 addresses without brackets
        out = re.sub(r":::(\d+)->", r"[::]:\1->", out)
        out = re.sub(r" {3,}", "   ", out)
    return code, out, err


def without_ages(said: Said) -> Said:
    """With every age the same, and columns as wide as they may be."""
    code, out, err = said
    out = re.sub(r"Less than a second|About a minute|\d+ (second|minute)s?\b", "AGE", out)
    return code, re.sub(r" {3,}", "   ", out), err


def command_line(stage: Stage) -> list[str]:
    return [sys.executable, "-m", "cnm.cli", "-H", f"unix://{stage.daemon.socket}"]


def variables() -> dict[str, str]:
    return {**os.environ, **environment(), "LC_ALL": "C.UTF-8"}


def members(archive: bytes) -> list[tuple[Any, ...]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(each.name, each.type, each.mode, each.size, each.linkname) for each in tar]


@contextmanager
def running(stage: Stage, *words: str, **options: Any) -> Iterator[Any]:
    """A command of ours that goes on; it is waited for at the end of the block."""
    command = [*command_line(stage), *words]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    with subprocess.Popen(command, env=variables(), **options) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            if sys.exc_info()[0]:
                process.kill()
            process.wait()
            watchdog.cancel()
