"""What the disk refuses without saying of which file is told with a place, in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import launcher as lab
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.unpacked import lacking


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), before="import tests.support.nameless_faults") as launcher,
    ):
        yield launcher


def test_a_container_that_cannot_be_started_or_removed_says_where(launcher: Launcher) -> None:
    ident = launcher.docker("create", "--name", "one", IMAGE, "echo", "runs")
    folder = launcher.place / "root/launcher/containers" / ident
    refused = f"container {ident[:12]}: {folder}: no space left on device"

    for verb, fault in (("start", "mount fails"), ("rm", "remove fails")):
        (folder / fault).touch()
        said = launcher.fails(verb, "one")[1].splitlines()[0]
        assert said.endswith(refused)
        (folder / fault).unlink()
        assert "Traceback" not in launcher.log

    launcher.docker("rm", "one")
    assert left(launcher) == []
