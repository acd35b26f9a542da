"""Images that a build needs which goes on: pruning leaves them, and removing them is refused."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.building import Project, workers
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import pids
from tests.support.small_containers import eventually
from tests.support.unpacked import environment

_SIGN = "/tmp/goes-on"
_WAITS = f"echo waits; until [ -e {_SIGN} ]; do sleep 0.1; done; rm {_SIGN}"


class _Build:
    """A build by the docker CLI, in the background."""

    def __init__(self, builder: Launcher, project: Project) -> None:
        self._builder = builder
        self._client: subprocess.Popen[str] = subprocess.Popen(
            builder.command("build", "-t", "made", "."),
            cwd=project.place,
            env={**environment(), "DOCKER_BUILDKIT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []

    def await_line(self, wanted: str) -> None:
        assert self._client.stdout
        for line in self._client.stdout:
            self._said.append(line)
            if line == f"{wanted}\n":
                return
        raise AssertionError("".join(self._said))

    @property
    def goes_on(self) -> bool:
        return self._client.poll() is None

    def release(self) -> None:
        """The step that waits ends."""
        for pid in pids(self._builder):
            with suppress(OSError):
                Path(f"/proc/{pid}/root{_SIGN}").touch()

    def end(self) -> str:
        said = self._client.communicate(timeout=60)[0]
        text = "".join([*self._said, said])
        assert self._client.returncode == 0, text
        return text

    def kill(self) -> None:
        self._client.kill()
        self._client.communicate()


@contextmanager
def _waiting(builder: Launcher, project: Project, dockerfile: str) -> Iterator[_Build]:
    """It has come to the step for which `dockerfile` has WAIT: RUN that lasts until `release`."""
    project.write(dockerfile.replace("WAIT", f"RUN {_WAITS}"))
    build = _Build(builder, project)
    try:
        build.await_line("waits")
        yield build
    finally:
        build.kill()


def test_pruning_during_a_build_does_not_break_it(builder: Launcher, project: Project) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN echo first >/first\nENV A=b\nWAIT\nRUN cat /first\n"
    with _waiting(builder, project, dockerfile) as build:
        assert "deleted" not in builder.docker("image", "prune", "-f")
        assert "deleted" not in builder.docker("system", "prune", "-f")
        build.release()
        assert "Successfully tagged made:latest" in build.end()


def test_pruning_everything_leaves_what_later_stages_begin_with(builder: Launcher, project: Project) -> None:
    builder.docker("run", "--name", "maker", IMAGE, "sh", "-c", "echo later >/later")
    builder.docker("commit", "maker", "later")
    builder.docker("rm", "maker")
    dockerfile = (
        f"FROM {IMAGE} AS one\nWAIT\nFROM later\nCOPY --from=one /etc/passwd /copied\nRUN cat /later\n"
    )
    with _waiting(builder, project, dockerfile) as build:
        builder.docker("image", "prune", "-a", "-f")
        build.release()
        assert "later\n" in build.end()


def test_removing_what_a_step_runs_in_is_refused(builder: Launcher, project: Project) -> None:
    base = builder.docker("images", "-q", "--no-trunc", IMAGE)
    with _waiting(builder, project, f"FROM {IMAGE}\nWAIT\n") as build:
        for words in (("rmi", IMAGE), ("rmi", base), ("rmi", "-f", base)):
            said = builder.fails(*words)[1]
            assert "conflict: unable to " in said, words
            assert (
                "is using its referenced image" in said or "image is being used by running container" in said
            )

        build.release()
        assert "Successfully tagged made:latest" in build.end()
    assert builder.docker("images", "-q", "--no-trunc", IMAGE) == base


def test_images_that_a_build_does_not_need_are_pruned_meanwhile(builder: Launcher, project: Project) -> None:
    builder.docker("run", "--name", "maker", IMAGE, "touch", "/unneeded")
    unneeded = builder.docker("commit", "maker")
    builder.docker("rm", "maker")
    with _waiting(builder, project, f"FROM {IMAGE}\nWAIT\n") as build:
        assert f"deleted: {unneeded}" in builder.docker("image", "prune", "-f")
        build.release()
        build.end()


def test_pruning_between_the_end_of_a_build_and_its_name_leaves_its_image(
    builder: Launcher, project: Project
) -> None:
    with _waiting(builder, project, f"FROM {IMAGE}\nWAIT\n") as build:
        assert builder.cnmd.process is not None
        cnmd = builder.cnmd.process.pid
        os.kill(cnmd, signal.SIGSTOP)  # of which the end of a build waits to hear that its sandbox is gone
        try:
            build.release()
            eventually(lambda: builder.docker("images", "-q", "--filter", "dangling=true"))
            eventually(lambda: not workers(builder))
            assert "deleted" not in builder.docker("image", "prune", "-f")
        finally:
            os.kill(cnmd, signal.SIGCONT)
        assert "Successfully tagged made:latest" in build.end()


def test_a_build_beside_pruning_without_end_is_not_disturbed(builder: Launcher, project: Project) -> None:
    steps = "".join(f"RUN echo {number} >/file{number}\n" for number in range(4))
    for turn in range(3):
        project.write(f"FROM {IMAGE}\nENV TURN={turn}\n{steps}RUN cat /file3\n")
        build = _Build(builder, project)
        try:
            while build.goes_on:
                builder.docker("image", "prune", "-f")
            assert "Successfully tagged made:latest" in build.end()
        finally:
            build.kill()
