"""A disk that is full while volumes are made and filled, by the docker CLI: told in a line, and nothing half-made."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import launcher as lab
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.moved_volumes import cleared, content, place, volumes
from tests.support.unpacked import lacking

_ROOM = 32 << 20
"""Bytes of the disk that the launcher has for everything."""
_PAGE = 4096
"""Bytes, what a file takes of a tmpfs at least."""
_FULL = "no space left on device"
_FILLED = "filled"
"""An image with 2 MiB at /big, in two files."""


@pytest.fixture(scope="module")
def small() -> Iterator[Launcher]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", root], check=True)
        try:
            with lab.running(Path(folder)) as launcher:
                _make_image(launcher)
                yield launcher
        finally:
            subprocess.run(["umount", root], check=True)


def _make_image(launcher: Launcher) -> None:
    script = "mkdir /big; for n in 1 2; do head -c 1048576 /dev/zero >/big/$n; done"
    launcher.docker("run", "--name", "maker", IMAGE, "sh", "-c", script)
    launcher.docker("commit", "maker", _FILLED)
    launcher.docker("rm", "maker")


@pytest.fixture
def launcher(small: Launcher) -> Iterator[Launcher]:
    yield small
    cleared(small)
    assert os.listdir(place(small)) == []
    assert left(small) == []
    assert "Traceback" not in small.log


@contextmanager
def full(launcher: Launcher, *, but_for: int = 0) -> Iterator[None]:
    """The disk has no room for more than `but_for` bytes."""
    filler = launcher.place / "root/filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, _PAGE):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
        file.truncate(file.tell() // _PAGE * _PAGE - but_for)
    try:
        yield
    finally:
        filler.unlink()


def _said(launcher: Launcher, *words: str) -> str:
    """Why it is refused, which is one line, and no more than that the disk is full."""
    (line,) = [
        line for line in launcher.fails(*words)[1].splitlines() if not line.startswith("See 'docker run")
    ]
    assert _FULL in line
    assert "internal error" not in line
    return line


def test_a_volume_without_room_is_not_made(launcher: Launcher) -> None:
    with full(launcher):
        said = _said(launcher, "volume", "create", "data")
        assert volumes(launcher) == []
        assert os.listdir(place(launcher)) == []

    record = place(launcher) / "data/volume.json"
    assert said == f"Error response from daemon: create data: {record}: {_FULL}"
    launcher.docker("volume", "create", "data")


def test_content_that_was_put_there_outlives_a_creation_without_room(launcher: Launcher) -> None:
    content(launcher).mkdir(parents=True)
    (content(launcher) / "restored").write_text("precious")

    with full(launcher):
        _said(launcher, "volume", "create", "data")
        _said(launcher, "run", "--rm", "-v", "data:/d", IMAGE, "true")

    assert (content(launcher) / "restored").read_text() == "precious"
    assert launcher.docker("run", "--rm", "-v", "data:/d", IMAGE, "cat", "/d/restored") == "precious"


@pytest.mark.parametrize("room", range(7))
def test_a_container_without_room_for_its_volumes_is_not_made(launcher: Launcher, room: int) -> None:
    """Wherever on its way the disk is full: it is made wholly, or nothing of it is."""
    words = ("create", "-v", "/anonymous", "-v", "data:/d", "-v", "other:/o", IMAGE, "true")

    with full(launcher, but_for=room * _PAGE):
        done = launcher.run(*words)
        if done.returncode != 0:
            assert re.fullmatch(rf"Error response from daemon: .*{_FULL}.*\n", done.stderr), done.stderr
            assert launcher.docker("ps", "-aq") == ""
            assert set(volumes(launcher)) <= {"data", "other"}  # as with Docker those with names stay
            assert [list(path.iterdir()) for path in place(launcher).glob("*/_data")] == [[]] * len(
                volumes(launcher)
            )

    created = launcher.docker(*words)
    assert launcher.docker("start", "-a", created) == ""


@pytest.mark.parametrize("name", ["data", ""], ids=["named", "anonymous"])
def test_a_new_volume_without_room_for_what_the_image_has_stays_empty(launcher: Launcher, name: str) -> None:
    words = ("run", "--rm", "-v", f"{name}:/big".lstrip(":"), _FILLED, "sh", "-c", "cat /big/* | wc -c")

    with full(launcher, but_for=(1 << 20) + 64 * _PAGE):
        _said(launcher, *words)
        assert launcher.docker("ps", "-aq") == ""
        assert volumes(launcher) == ([name] if name else [])
        if name:
            assert os.listdir(content(launcher)) == []

    assert launcher.docker(*words) == str(2 << 20)


def test_a_container_that_runs_out_of_room_in_its_volume_hears_it(launcher: Launcher) -> None:
    script = "head -c 2097152 /dev/zero >/d/file; echo wrote $?"

    with full(launcher, but_for=1 << 20):
        done = launcher.run("run", "--name", "writer", "-v", "data:/d", IMAGE, "sh", "-c", script)

    assert done.stdout == "wrote 1\n"
    assert launcher.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "writer") == "exited 0"
    assert 0 < (content(launcher) / "file").stat().st_size < 2 << 20
