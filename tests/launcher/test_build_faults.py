"""Builds that fail, that nobody waits for any more, and whose launcher is killed: nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.building import Project, folders, rest, workers
from tests.support.launcher import Launcher
from tests.support.small_containers import eventually
from tests.support.unpacked import environment


@pytest.mark.parametrize(
    ("dockerfile", "code", "complaint"),
    [
        (
            "FROM busybox\nRUN echo no; exit 3\n",
            3,
            "The command '/bin/sh -c echo no; exit 3' returned a non-zero code: 3",
        ),
        (
            'FROM busybox\nRUN ["sh", "-c", "exit 4"]\n',
            4,
            "The command 'sh -c exit 4' returned a non-zero code: 4",
        ),
        (
            "FROM busybox\nCOPY nope /\n",
            1,
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "FROM busybox\n\n# a comment\nRUNN ls\n",
            1,
            "Error response from daemon: dockerfile parse error line 4: unknown instruction: RUNN",
        ),
        (
            "FROM busybox\nRUN echo Error: mine >&2; echo Error: too >&2; exit 1\n",
            1,
            "The command '/bin/sh -c echo Error: mine >&2; echo Error: too >&2; exit 1' returned a non-zero code: 1",
        ),
        ('FROM busybox\nRUN ["nosuch"]\n', 1, 'exec: "nosuch": executable file not found in $PATH'),
        ("", 1, "Error response from daemon: the Dockerfile (Dockerfile) cannot be empty"),
        ("FROM nope.invalid/nope\n", 1, "nope.invalid"),
    ],
)
def test_what_fails_says_why_and_leaves_nothing(
    builder: Launcher, project: Project, dockerfile: str, code: int, complaint: str
) -> None:
    done = project.write(dockerfile).build(builder, "-t", "web", ".")

    assert done.returncode == code
    assert complaint in done.stderr
    assert builder.docker("images", "-q", "web") == ""


def test_what_a_step_says_in_podman_s_words_is_told_all_the_same(builder: Launcher, project: Project) -> None:
    said = "Error: mine >&2; echo ': exit status 5' >&2; printf 'COMMIT\\n--> 0123456789a\\nSTEP 9: x\\n'"
    project.write(f"FROM busybox\nRUN echo {said}\nRUN echo {said}; printf Error: >&2; exit 1\n")

    done = project.build(builder, ".")

    assert done.returncode == 1
    for line in ("Error: mine", ": exit status 5", "COMMIT", "--> 0123456789a", "STEP 9: x"):
        assert done.stdout.count(f"{line}\n") == 2


def _begun(builder: Launcher, project: Project) -> subprocess.Popen[bytes]:
    """A build whose RUN has begun, and does not end by itself."""
    project.write("FROM busybox\nRUN echo begun; sleep 1000\n")
    client = subprocess.Popen(
        builder.command("build", "."),
        cwd=project.place,
        env={**environment(), "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert client.stdout is not None
    assert any(line == b"begun\n" for line in client.stdout)
    return client


def test_a_client_that_goes_ends_its_build(builder: Launcher, project: Project) -> None:
    client = _begun(builder, project)
    assert len(folders(builder)) == 2

    client.kill()
    client.communicate()

    eventually(lambda: folders(builder) == [])
    assert rest(builder) == []


def test_a_podman_that_is_killed_ends_its_build(builder: Launcher, project: Project) -> None:
    client = _begun(builder, project)
    found = workers(builder)
    assert len(found) > 1

    os.kill(min(found), signal.SIGKILL)
    said, _ = client.communicate(timeout=20)

    assert client.returncode == 1
    assert b"the build ended without saying why" in said
    eventually(lambda: rest(builder) == [])


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_launcher_that_ends_leaves_nothing_of_a_build_and_the_next_works(
    builder: Launcher, project: Project, how: str
) -> None:
    client = _begun(builder, project)

    if how == "killed":
        builder.kill()
    else:
        builder.stop()
    client.communicate(timeout=20)
    builder.start()

    assert rest(builder) == []
    project.write("FROM busybox\nRUN echo again\n")
    assert "again" in project.said(builder, ".")
