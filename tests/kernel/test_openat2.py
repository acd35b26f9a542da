"""Paths below a directory that stands for the root, whatever symlinks are on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.kernel.openat2 import open_in_root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """Of a tree with the file etc/passwd, beside one that is outside."""
    (tmp_path / "passwd").write_text("outside")
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "etc" / "passwd").write_text("inside")
    (inside / "absolute").symlink_to("/etc/passwd")
    (inside / "upwards").symlink_to("../../../../passwd")
    (inside / "etc" / "around").symlink_to("../../../etc/passwd")
    descriptor = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("path", ["etc/passwd", "/etc/passwd", "../etc/passwd", "absolute", "etc/around"])
def test_no_path_leads_out(root: int, path: str) -> None:
    with os.fdopen(open_in_root(root, path, os.O_RDONLY)) as file:
        assert file.read() == "inside"
        assert not os.get_inheritable(file.fileno())


def test_what_is_only_outside_is_not_found(root: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_in_root(root, "upwards", os.O_RDONLY)

    assert caught.value.filename == "upwards"


def test_links_of_proc_are_not_followed() -> None:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="/cwd"):
            open_in_root(proc, f"{os.getpid()}/cwd", os.O_RDONLY)
    finally:
        os.close(proc)
