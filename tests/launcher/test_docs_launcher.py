"""The page about the launcher: what it shows is what its commands print, and its table has every request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnm.launcher.api import described
from cnm.launcher.api.app import declared_routes
from tests.support.launcher import Launcher
from tests.support.pages import constant, transcripts
from tests.support.unpacked import environment, program

_PAGE = (Path(__file__).parents[2] / "docs/launcher.md").read_text()


@pytest.fixture
def user(docker: Launcher, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody at the host's prompt."""
    programs = tmp_path / "bin"
    programs.mkdir()
    os.symlink(Path(sys.prefix) / "bin/cnmctl", programs / "cnmctl")
    os.symlink(program("busybox"), programs / "wget")
    known = environment()
    return known | {
        "PATH": f"{programs}:{known['PATH']}",
        "DOCKER_HOST": f"unix://{docker.socket}",
        "CNM_HOST": f"unix://{docker.cnmd.socket}",
    }


def _printed(docker: Launcher, command: str, user: dict[str, str], place: Path) -> str:
    """`/bin/busybox` of the page is Debian's; here it is unpacked."""
    command = command.replace("cp /bin/busybox", f"cp {program('busybox')}")
    typed = docker.popen(
        ["sh", "-c", f"{{ {command}; }} 2>&1"],
        env=user,
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    return str(typed.communicate(timeout=60)[0])


def _steady(printed: str) -> list[str]:
    """Without what the docker CLI of 20.10 says beside an error, and what another network's turn changes."""
    kept = [line for line in printed.splitlines() if "error waiting for container" not in line]
    return constant(re.sub(r"172\.\d+\.0\.", "172.N.0.", "\n".join(kept)))


def test_every_command_prints_what_the_page_shows(
    docker: Launcher, user: dict[str, str], tmp_path: Path
) -> None:
    shown = transcripts(_PAGE)
    assert len(shown) > 15

    for command, expected in shown:
        printed = _printed(docker, command, user, tmp_path)
        assert (command, _steady(printed)) == (command, _steady(expected))


def test_the_table_has_every_request() -> None:
    section = _PAGE.partition("\n## Which of Docker's API is served\n")[2].partition("\n## ")[0]

    assert described.text() in section, "python -m cnm.launcher.api.described tells what the page must say"
    assert set(re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`]*)`", section)) == {
        route.name for route in declared_routes()
    }
