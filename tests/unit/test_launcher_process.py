"""What a container runs, with which variables and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.process import (
    PATH,
    arguments,
    environment,
    has_init,
    make_working_directory,
    working_directory,
)
from cnm.launcher.scope import in_scope
from cnm.wire.containers import Config, HostConfig


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "found"),
    [
        (["/entry"], ["a", "b"], ("/entry", "a", "b")),
        (None, ["a"], ("a",)),
        ("/entry", "one word", ("/entry", "one word")),
        ([""], ["a"], ("a",)),
    ],
)
def test_the_entrypoint_comes_before_the_command(
    entrypoint: list[str] | str | None, cmd: list[str] | str, found: tuple[str, ...]
) -> None:
    assert arguments(Config(entrypoint=entrypoint, cmd=cmd)) == found


def test_a_container_without_a_command_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"^no command specified$"):
        arguments(Config(entrypoint=[""], cmd=[]))


def test_variables_of_the_container_win_over_links_and_links_over_docker_s() -> None:
    config = Config(tty=True, env=["A=own", "TERM=dumb", "HOSTNAME"])

    found = environment(config, "web", ["A=link", "B=link"])

    assert found == [f"PATH={PATH}", "TERM=dumb", "A=own", "B=link"]


@pytest.mark.parametrize(
    ("asked", "found"), [(None, "/"), ("/a//b/../c/", "/a/c"), ("//double", "/double"), ("/..", "/")]
)
def test_the_working_directory_is_clean(asked: str | None, found: str) -> None:
    assert working_directory(Config(working_dir=asked)) == found


def test_a_missing_working_directory_is_made_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("/real/place")

    make_working_directory(str(tmp_path / "root"), Config(working_dir="/link/deep"), owner=(-1, -1))

    assert (tmp_path / "root" / "real" / "place" / "deep").is_dir()


def test_a_file_in_the_place_of_the_working_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidParameter, match=r"^Cannot mkdir: /file is not a directory$"):
        make_working_directory(str(tmp_path), Config(working_dir="/file"))


def test_an_init_runs_only_in_pids_of_one_s_own() -> None:
    assert has_init(HostConfig(init=True))
    assert has_init(HostConfig(), default=True)
    assert not has_init(HostConfig(init=False), default=True)
    assert not has_init(HostConfig(init=True, pid_mode="host"))


def test_links_without_end_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(OSError, match="too many levels"):
        in_scope(str(tmp_path), "/a")
