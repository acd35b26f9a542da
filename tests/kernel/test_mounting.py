"""Mounts by system calls of our own, in the mount namespace of the test's process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.kernel import mounting


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing stays mounted at."""
    made = tmp_path / "place"
    made.mkdir()
    yield made
    mounting.unmount_all(str(made))


def _options(place: Path) -> list[str]:
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return next(line[5] for line in lines if line[4] == str(place)).split(",")


def test_a_file_system_has_the_options_and_flags_that_were_asked_for(place: Path) -> None:
    mounting.mount("name", str(place), "tmpfs", "size=65536,mode=1777", mounting.NOSUID | mounting.NODEV)

    status = os.statvfs(place)
    assert status.f_blocks * status.f_frsize == 65536
    assert {"nosuid", "nodev"} <= set(_options(place))
    assert "noexec" not in _options(place)


def test_a_bind_shows_the_same_files(place: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").touch()

    mounting.bind(str(tmp_path / "source"), str(place))

    assert os.listdir(place) == ["file"]


def test_mounts_are_taken_off_one_by_one_or_all(place: Path) -> None:
    def stack(count: int) -> None:
        for number in range(count):
            mounting.mount(str(number), str(place), "tmpfs", "")

    stack(2)
    assert [mounting.unmount(str(place)) for _ in range(3)] == [True, True, False]

    stack(3)
    mounting.unmount_all(str(place))
    assert not os.path.ismount(place)
    assert not mounting.unmount(f"{place}/absent")


def test_a_mount_in_use_is_detached(place: Path) -> None:
    mounting.mount("name", str(place), "tmpfs", "")
    with (place / "file").open("w") as file:
        assert mounting.unmount(str(place))

        assert file.write("still there") == 11
        assert os.listdir(place) == []


def test_an_error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent") as caught:
        mounting.mount("name", str(tmp_path / "absent"), "tmpfs", "")

    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(tmp_path / "absent"))


def test_a_working_directory_is_that_of_the_block_alone(place: Path) -> None:
    before, seen = os.getcwd(), []

    mounting.in_directory(str(place), lambda: seen.append(os.getcwd()))

    assert (seen, os.getcwd()) == ([str(place)], before)


def test_what_fails_in_a_working_directory_is_raised(place: Path) -> None:
    def fail() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        mounting.in_directory(str(place), fail)
    with pytest.raises(FileNotFoundError):
        mounting.in_directory(str(place / "absent"), fail)


def test_a_file_system_is_synchronised_by_any_of_its_files(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"content")
        mounting.sync(file.fileno())

    with pytest.raises(OSError, match="Bad file descriptor"):
        mounting.sync(1 << 20)
