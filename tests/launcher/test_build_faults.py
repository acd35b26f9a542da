"""Builds that fail, that nobody waits for any more, and whose launcher is killed: nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from pathlib import Path

import pytest

from tests.support.building import Project, folders, rest, sending, workers
from tests.support.engine_pair import ask
from tests.support.image_store import directory, entry, symlink, tar, text
from tests.support.launcher import Launcher
from tests.support.odd_archives import HOLES, NO_FILES, NO_HEADERS, OUTSIDE
from tests.support.small_containers import eventually

ODD = {**NO_HEADERS, **NO_FILES}


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


def test_a_client_that_goes_ends_its_build(builder: Launcher, project: Project) -> None:
    client = project.in_step(builder)
    assert len(folders(builder)) == 2

    client.kill()
    client.communicate()

    eventually(lambda: folders(builder) == [])
    assert rest(builder) == []


def test_a_podman_that_is_killed_ends_its_build(builder: Launcher, project: Project) -> None:
    client = project.in_step(builder)
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
    client = project.in_step(builder)

    if how == "killed":
        builder.kill()
    else:
        builder.stop()
    client.communicate(timeout=20)
    builder.start()

    assert rest(builder) == []
    project.write("FROM busybox\nRUN echo again\n")
    assert "again" in project.said(builder, ".")


def test_a_build_that_cannot_be_remembered_succeeds(builder: Launcher, project: Project) -> None:
    memory = builder.place / "root/launcher/remembered-builds"
    memory.rename(memory.with_name("away"))
    try:
        memory.write_text("no directory")

        said = project.write("FROM busybox\nENV A=1\n").said(builder, "-t", "web", ".")

        assert said[-1] == "Successfully tagged web:latest"
        assert "is not remembered: cannot write" in builder.log
        assert project.said(builder, "-t", "web", ".").count(" ---> Using cache") == 1
    finally:
        memory.unlink()
        memory.with_name("away").rename(memory)


def test_a_quiet_build_that_fails_tells_what_was_said_last(builder: Launcher) -> None:
    says = "yes 0123456789abcdef | head -c 3000000; echo the end; exit 7"
    archive = tar(text("Dockerfile", f"FROM busybox\nRUN {says}\n"))

    answer = ask(builder.socket, "POST", "/v1.41/build?q=1", archive, {"Content-Type": "application/x-tar"})

    lines = [json.loads(line) for line in answer.body.splitlines()]
    told = "".join(line.get("stream", "") for line in lines)
    assert told.startswith("[what was said before is left out]\n")
    assert told.endswith("the end\n")
    assert 500_000 < len(told) < 1_100_000
    assert lines[-1]["errorDetail"]["code"] == 7


@pytest.mark.parametrize("case", ODD)
def test_an_archive_with_odd_headers_is_the_client_s_fault(
    builder: Launcher, project: Project, case: str
) -> None:
    header = {"Content-Type": "application/x-tar"}
    builder.docker("create", "--name", "odd", "busybox")

    done = project.build(builder, "-", given=ODD[case])
    built = ask(builder.socket, "POST", "/v1.41/build", ODD[case], header)
    copied = ask(builder.socket, "PUT", "/v1.41/containers/odd/archive?path=/", ODD[case], header)

    assert done.returncode == 1
    assert "Error response from daemon: Error processing tar file: " in done.stderr
    assert (built.status, copied.status) == (400, 400)
    assert built.message == copied.message


def test_a_name_that_is_no_text_is_told_all_the_same(builder: Launcher) -> None:
    builder.docker("create", "--name", "odd", "busybox")

    refused = ask(builder.socket, "PUT", "/v1.41/containers/odd/archive?path=/etc", OUTSIDE)

    assert (refused.status, refused.message[-21:]) == (400, ' is outside of "/etc"')
    assert '"../\ufffd' in refused.message


def test_images_of_archives_with_odd_headers_are_the_client_s_fault(builder: Launcher) -> None:
    header = {"Content-Type": "application/x-tar"}

    imported = ask(builder.socket, "POST", "/v1.41/images/create?fromSrc=-&repo=odd", HOLES, header)
    loaded = ask(builder.socket, "POST", "/v1.41/images/load", HOLES, header)

    assert imported.status == 400
    assert "the archive cannot be read" in imported.message
    assert loaded.status == 200  # as all that goes wrong with a load
    assert "the archive of images cannot be read" in loaded.message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a%00b", r"no file can be called 'a\x00b'"),
        ("folder", "failed to open folder: is a directory"),
        ("loop", "failed to open loop: too many levels of symbolic links"),
        ("n" * 300, f"failed to open {'n' * 300}: file name too long"),
        ("pipe", "the Dockerfile (pipe) cannot be empty"),
    ],
)
def test_what_can_be_no_dockerfile_is_the_client_s_fault(builder: Launcher, name: str, said: str) -> None:
    pipe = entry("pipe", kind=tarfile.FIFOTYPE)
    archive = tar(directory("folder"), directory(".dockerignore"), symlink("loop", "loop"), (pipe, b""))
    header = {"Content-Type": "application/x-tar"}

    answer = ask(builder.socket, "POST", f"/v1.41/build?dockerfile={name}", archive, header)

    assert (answer.status, answer.message) == (400, said)
    assert builder.process
    opened = Path(f"/proc/{builder.process.pid}/fd").iterdir()
    assert [path for path in map(_target, opened) if "/context" in path] == []


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""


def test_a_client_that_goes_while_it_sends_leaves_nothing(builder: Launcher) -> None:
    with sending(builder):
        assert folders(builder)

    eventually(lambda: folders(builder) == [])
    assert rest(builder) == []


@pytest.mark.parametrize("setting", ["not base64 !", "eyJh", "W10", "é"])
def test_passwords_that_cannot_be_read_are_refused(builder: Launcher, setting: str) -> None:
    headers = {"Content-Type": "application/x-tar", "X-Registry-Config": setting}

    answer = ask(builder.socket, "POST", "/v1.41/build", tar(text("Dockerfile", "FROM busybox\n")), headers)

    assert (answer.status, answer.message) == (400, "the header X-Registry-Config cannot be read")


@pytest.mark.parametrize("code", [0, 3])
def test_nothing_is_left_of_a_build_when_its_client_hears_of_its_end(
    builder: Launcher, project: Project, code: int
) -> None:
    builder.docker("network", "create", "private")
    project.write(f"FROM busybox\nRUN exit {code}\n")

    done = project.build(builder, "--network", "private", ".")

    assert rest(builder) == []
    assert done.returncode == code
    builder.docker("network", "rm", "private")
