"""Builds that are remembered: the same ones at once, and what makes two the same."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from cnm.errors import CnmError, NotFound
from cnm.launcher.building.parsing import parse
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.remembered import Memory, Remembered, key
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.images import Images

_KEY = "a" * 64
_IMAGE = "b" * 64
_MADE = Remembered((_IMAGE,), ())


class _NoImages:
    def find(self, reference: str) -> Any:
        raise NotFound(f"No such image: {reference}")


def test_the_same_build_is_kept_by_many_at_once(tmp_path: Path) -> None:
    memory = Memory(str(tmp_path))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: memory.keep(_KEY, _MADE), range(400)))

    assert memory.recall(_KEY, [_IMAGE]) == _MADE
    assert os.listdir(tmp_path) == [_KEY]


def test_what_cannot_be_kept_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / _KEY).mkdir()

    with pytest.raises(CnmError, match=f"cannot write {tmp_path / _KEY}: is a directory"):
        Memory(str(tmp_path)).keep(_KEY, _MADE)

    assert os.listdir(tmp_path) == [_KEY]
    assert Memory(str(tmp_path)).recall(_KEY, [_IMAGE]) is None


def test_what_a_kill_has_left_unfinished_is_no_build_and_goes_at_the_next_start(tmp_path: Path) -> None:
    memory = Memory(str(tmp_path))
    memory.keep(_KEY, _MADE)
    (tmp_path / "tmp1.new").write_text("half")

    memory.settle()

    assert os.listdir(tmp_path) == [_KEY]
    assert memory.clear()[0] == [_KEY]


def test_a_build_is_another_where_an_attribute_of_a_file_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    images = cast(Images, _NoImages())
    recipe = Recipe(parse("FROM scratch\nCOPY file /\n", {}), images)
    before = key(recipe, BuildRequest(), str(tmp_path))

    try:
        os.setxattr(file, "user.test", b"1")
    except OSError as error:
        pytest.skip(f"this file system has no attributes: {error}")

    assert key(recipe, BuildRequest(), str(tmp_path)) != before
    os.removexattr(file, "user.test")
    assert key(recipe, BuildRequest(), str(tmp_path)) == before
