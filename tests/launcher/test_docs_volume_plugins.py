"""The page about volume plugins: what it shows is what its commands print, and its table has every command."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.plugin.snapshots import main
from tests.support.launcher import Launcher
from tests.support.pages import constant, transcripts
from tests.support.snapshot_plugin import SnapshotPlugin
from tests.support.unpacked import environment

_PAGE = (Path(__file__).parents[2] / "docs/volume-plugins.md").read_text()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[SnapshotPlugin]:
    made = SnapshotPlugin(tmp_path / "plugin", "/run/docker/plugins")
    made.start()
    yield made
    made.stop()


def steady(printed: str) -> list[str]:
    """Without times, and what a file system takes for a small file."""
    without_times = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", printed)
    return constant(re.sub(r"\b[\d.]+k?B\b", "SIZE", without_times))


def test_every_command_prints_what_the_page_shows(
    docker: Launcher, plugin: SnapshotPlugin, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "cnm-volume-snapshots"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m cnm.plugin.snapshots.main --root {plugin.root} "$@"\n'
    )
    program.chmod(0o755)
    known = environment()
    user = known | {"PATH": f"{program.parent}:{known['PATH']}", "DOCKER_HOST": f"unix://{docker.socket}"}
    shown = transcripts(_PAGE)
    assert len(shown) > 15

    for command, expected in shown:
        done = subprocess.run(
            ["sh", "-c", f"{{ {command}; }} 2>&1"], env=user, cwd=tmp_path, capture_output=True, text=True
        )
        assert (command, steady(done.stdout)) == (command, steady(expected))


def test_the_table_has_every_command() -> None:
    said = {re.sub(r" ?(\[?[A-Z-].*)?$", "", words) for words in re.findall(r"(?m)^\| `([^`]*)`", _PAGE)}

    assert said == set(commands(main._parser()))


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for name, inner in group.choices.items():
            yield from [f"{name} {below}" for below in commands(inner)] or [name]
