"""Builds on a disk that becomes full: told clearly, the room is there again, and a small build works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import building
from tests.support.building import Project, rest
from tests.support.launcher import Launcher
from tests.support.small_disk import free, on_small_disk

_ROOM = 64 << 20
"""Bytes of the disk that the launcher has for everything."""
_TOO_MUCH = _ROOM + (16 << 20)
_HALF = _ROOM // 2
"""More than half of what is free: there is room for it once."""
_SLACK = 256 << 10
"""Bytes by which records may grow."""


@pytest.fixture(scope="module")
def cramped() -> Iterator[Launcher]:
    with on_small_disk(_ROOM) as launcher:
        yield launcher


@pytest.fixture
def roomy(cramped: Launcher) -> Iterator[Launcher]:
    """The same; afterwards all that was built is gone, and so much room is there as before."""
    before = free(cramped)
    with building.built(cramped):
        yield cramped
    assert before - free(cramped) < _SLACK


def _write_large(project: Project, size: int) -> None:
    with (project.place / "large").open("wb") as file:
        file.truncate(size)


def _works(launcher: Launcher, project: Project) -> None:
    (project.place / "large").unlink(missing_ok=True)
    project.write("FROM busybox\nRUN echo again > /again\nCMD cat /again\n").said(
        launcher, "-t", "small", "."
    )
    assert launcher.docker("run", "--rm", "small") == "again"


def test_files_that_are_too_large_are_refused(roomy: Launcher, project: Project) -> None:
    _write_large(project.write("FROM busybox\nCOPY large /\n"), _TOO_MUCH)

    done = project.build(roomy, ".")

    assert done.returncode == 1
    assert "Error processing tar file: /large: no space left on device" in done.stderr
    assert rest(roomy) == []
    _works(roomy, project)


def test_a_step_that_fills_the_disk_fails_as_it_says_itself(roomy: Launcher, project: Project) -> None:
    project.write(f"FROM busybox\nENV A=1\nRUN head -c {_TOO_MUCH} /dev/zero >/large\n")

    done = project.build(roomy, ".")

    assert "no space left on device: make room" in done.stdout
    assert f"'/bin/sh -c head -c {_TOO_MUCH} /dev/zero >/large' returned a non-zero code: 1" in done.stderr
    assert rest(roomy) == []
    _works(roomy, project)


def test_what_a_step_has_written_may_have_no_room_as_a_layer(roomy: Launcher, project: Project) -> None:
    project.write(f"FROM busybox\nRUN head -c {_HALF} /dev/zero >/large\n")

    done = project.build(roomy, ".")

    assert done.returncode == 1
    assert done.stderr.startswith("RUN failed: ")  # podman 4 forgets why its layer cannot be written
    assert "no space left on device: make room" in done.stderr
    assert rest(roomy) == []
    _works(roomy, project)


def test_what_is_copied_may_have_no_room_in_the_image(roomy: Launcher, project: Project) -> None:
    _write_large(project.write("FROM busybox\nCOPY large /\n"), _HALF)

    done = project.build(roomy, ".")

    assert done.returncode == 1
    assert done.stderr == "COPY failed: no space left on device: make room, and try again\n"
    assert done.stdout.splitlines()[-1] == "Step 2/2 : COPY large /"
    assert rest(roomy) == []
    _works(roomy, project)
