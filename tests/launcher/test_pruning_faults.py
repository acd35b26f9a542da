"""Pruning where podman fails with one of the images: the others go all the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.launcher.image_index import digits
from tests.support import launcher as lab
from tests.support.faulty_programs import FaultyPrograms
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.unpacked import lacking


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        programs = FaultyPrograms(Path(folder))
        with lab.running(Path(folder), config=programs.config) as launcher:
            yield launcher


@pytest.mark.parametrize("number", [0, 2])
def test_a_prune_that_meets_one_failure_goes_on_with_the_rest(launcher: Launcher, number: int) -> None:
    launcher.docker("create", "--name", "maker", IMAGE)
    images = [launcher.docker("commit", "--message", str(message), "maker") for message in range(3)]
    launcher.docker("rm", "maker")
    programs, stays = FaultyPrograms(launcher.place), images[number]

    programs.fail("podman", digits(stays))
    pruned = launcher.docker("image", "prune", "-f")

    assert {f"deleted: {image}" in pruned for image in images if image != stays} == {True}
    assert f"deleted: {stays}" not in pruned
    assert f"image {stays} is not pruned: " in launcher.log
    programs.mend()
    assert f"deleted: {stays}" in launcher.docker("image", "prune", "-f")
    assert left(launcher) == []
