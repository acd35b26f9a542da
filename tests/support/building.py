"""Directories with Dockerfiles, built by the docker CLI's classic builder, and what is left of builds."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cnmd import UnixConnection
from tests.support.image_store import tar, text
from tests.support.launcher import Launcher
from tests.support.launcher_left import left
from tests.support.small_containers import eventually
from tests.support.unpacked import environment


@contextmanager
def built(docker: Launcher) -> Iterator[Launcher]:
    """What was built in the block goes again. Raises AssertionError where anything else is left."""
    yield docker
    docker.clear()
    names = {name for name in _images(docker) if name != "busybox:latest" and not name.endswith(":<none>")}
    if names:
        docker.docker("rmi", "-f", *names)
    if len(_images(docker)) > 1:
        docker.docker("image", "prune", "-f")
    assert _images(docker) == ["busybox:latest"]
    left = rest(docker)
    assert left == [], left


def rest(docker: Launcher) -> list[str]:
    """What there is of builds."""
    return [*left(docker), *folders(docker), *map(str, workers(docker))]


def workers(docker: Launcher) -> list[int]:
    """podman and what it has started."""
    marks = (b"CNM_BUILD=", os.fsencode(docker.run_dir))
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            environ = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
            found += [int(entry.name)] if all(mark in environ for mark in marks) else []
    return found


@contextmanager
def sending(docker: Launcher) -> Iterator[None]:
    """Somebody who has sent half of the files of a build, and does not go on; who goes at the end of the block."""
    archive = tar(text("Dockerfile", "FROM busybox\nCOPY large /\n"), text("large", "x" * (4 << 20)))
    with contextlib.closing(UnixConnection(docker.socket)) as connection:
        connection.putrequest("POST", "/v1.41/build")
        connection.putheader("Content-Type", "application/x-tar")
        connection.putheader("Content-Length", str(len(archive)))
        connection.endheaders(archive[: 2 << 20])
        eventually(lambda: list((docker.place / "root/launcher/builds").glob("*/context/large")))
        yield


def folders(docker: Launcher) -> list[str]:
    """Of builds that go on."""
    places = (docker.place / "root/launcher/builds", docker.run_dir / "launcher/builds")
    return [str(path) for place in places for path in place.iterdir()]


def _images(docker: Launcher) -> list[str]:
    return docker.docker("images", "-a", "--format", "{{.Repository}}:{{.Tag}}").splitlines()


class Project:
    """A directory with a Dockerfile and files beside it."""

    def __init__(self, place: Path, *options: str) -> None:
        """`options` of the docker CLI stand before its verb."""
        self.place, self.options = place, options

    def write(self, dockerfile: str, **files: str) -> Project:
        (self.place / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            (self.place / name).write_text(content)
        return self

    def build(
        self, docker: Launcher, *arguments: str, given: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """`docker build ARGUMENTS`, in the directory."""
        done = subprocess.run(
            docker.command(*self.options, "build", *arguments),
            cwd=self.place,
            env={**environment(), "DOCKER_BUILDKIT": "0"},
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def begin(self, docker: Launcher, *arguments: str) -> subprocess.Popen[bytes]:
        """`docker build ARGUMENTS` in the background; standard error is in its output."""
        return subprocess.Popen(
            docker.command(*self.options, "build", *arguments),
            cwd=self.place,
            env={**environment(), "DOCKER_BUILDKIT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def in_step(self, docker: Launcher) -> subprocess.Popen[bytes]:
        """A build whose RUN has begun, and does not end by itself."""
        client = self.write("FROM busybox\nRUN echo begun; sleep 1000\n").begin(docker, ".")
        assert client.stdout is not None
        assert any(line == b"begun\n" for line in client.stdout)
        return client

    def said(self, docker: Launcher, *arguments: str, given: bytes = b"") -> list[str]:
        """Lines of a build that succeeds, without those of what it sends."""
        done = self.build(docker, *arguments, given=given)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return [line for line in done.stdout.splitlines() if line and not line.startswith("Sending build")]
