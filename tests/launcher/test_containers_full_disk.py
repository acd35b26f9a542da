"""A disk that containers have filled: they end and go all the same, and then there is room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.small_containers import eventually
from tests.support.small_disk import filled, free, on_small_disk

_ROOM = 48 << 20
"""Bytes of the disk that cnmd and the launcher have for everything."""


@pytest.fixture(scope="module")
def small() -> Iterator[Launcher]:
    with on_small_disk(_ROOM) as launcher:
        yield launcher


@pytest.fixture
def launcher(small: Launcher) -> Iterator[Launcher]:
    yield small
    small.clear()
    assert left(small) == []


def _run(launcher: Launcher, *options: str) -> None:
    """One that writes until there is no room."""
    script = "cat /dev/zero >/full; exec sleep 1000"
    launcher.docker("run", "-d", "--name", "greedy", *options, IMAGE, "sh", "-c", script)
    eventually(lambda: free(launcher) == 0)


@pytest.mark.parametrize("options", [(), ("-p", "8080:80"), ("--network", "none")], ids=" ".join)
def test_who_has_filled_it_is_removed(launcher: Launcher, options: tuple[str, ...]) -> None:
    before = free(launcher)
    _run(launcher, *options)

    with filled(launcher):
        launcher.docker("rm", "-f", "greedy")
        assert launcher.docker("ps", "-aq") == ""

    assert free(launcher) > before * 0.9
    launcher.docker("run", "--rm", *options, IMAGE, "true")


def test_all_are_stopped_and_removed_one_by_one(launcher: Launcher) -> None:
    names = [f"c{number}" for number in range(5)]
    for name in names:
        launcher.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")

    for name in names:
        with filled(launcher):
            launcher.docker("stop", "-t", "0", name)
        with filled(launcher):
            launcher.docker("rm", name)

    assert launcher.docker("ps", "-aq") == ""


def test_both_daemons_are_killed_and_start_on_it(launcher: Launcher) -> None:
    launcher.docker("run", "-d", "--name", "one", IMAGE, "sleep", "1000")

    with filled(launcher):
        launcher.kill()
        launcher.cnmd.kill()
        launcher.cnmd.start()
        launcher.start()
        assert launcher.docker("ps", "--format", "{{.Names}}").split() == ["one"]
        launcher.docker("rm", "-f", "one")
