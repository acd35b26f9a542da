"""Directories with Dockerfiles, built by the docker CLI's classic builder, and what is left of builds."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.launcher import Launcher
from tests.support.launcher_left import left
from tests.support.unpacked import environment


@contextmanager
def built(docker: Launcher) -> Iterator[Launcher]:
    """What was built in the block goes again. Raises AssertionError where anything else is left."""
    yield docker
    docker.clear()
    names = {name for name in _images(docker) if name not in ("busybox:latest", "<none>:<none>")}
    if names:
        docker.docker("rmi", "-f", *names)
    if len(_images(docker)) > 1:
        docker.docker("image", "prune", "-f")
    assert _images(docker) == ["busybox:latest"]
    assert rest(docker) == []


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


def folders(docker: Launcher) -> list[str]:
    """Of builds that go on."""
    places = (docker.place / "root/launcher/builds", docker.run_dir / "launcher/builds")
    return [str(path) for place in places for path in place.iterdir()]


def _images(docker: Launcher) -> list[str]:
    return docker.docker("images", "-a", "--format", "{{.Repository}}:{{.Tag}}").splitlines()


class Project:
    """A directory with a Dockerfile and files beside it."""

    def __init__(self, place: Path) -> None:
        self.place = place

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
            docker.command("build", *arguments),
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

    def said(self, docker: Launcher, *arguments: str, given: bytes = b"") -> list[str]:
        """Lines of a build that succeeds, without those of what it sends."""
        done = self.build(docker, *arguments, given=given)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return [line for line in done.stdout.splitlines() if line and not line.startswith("Sending build")]
