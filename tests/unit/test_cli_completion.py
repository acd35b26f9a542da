"""Completion in a real bash: what TAB proposes after the words before it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cli.completion import script
from tests.unit.cli_daemon import FakeDaemon, endpoint, fake_daemon, network, sandbox

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "packaging" / "completions" / "cnmctl.bash"


def test_script_is_what_the_grammar_says() -> None:
    assert SCRIPT.read_text() == script(), (
        "run: python -m cnm.cli.completion > packaging/completions/cnmctl.bash"
    )


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        daemon.answers("GET", "/networks", [network("web"), network("db")])
        daemon.answers("GET", "/cnm/v1/sandboxes", [sandbox("front"), sandbox("back")])
        daemon.answers("GET", "/cnm/v1/endpoints", [endpoint("front", "web"), endpoint("back", "web")])
        yield daemon


def proposed(daemon: FakeDaemon, tmp_path: Path, *words: str) -> list[str]:
    """The proposals for the last of `words`, cnmctl itself being this checkout's."""
    program = tmp_path / "cnmctl"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cnm.cli "$@"\n')
    program.chmod(0o755)
    line = " ".join(map(shlex.quote, ("cnmctl", *words)))
    commands = (
        f"source {SCRIPT}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _cnmctl; "
        'for reply in "${COMPREPLY[@]}"; do echo "$reply"; done'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CNM_HOST": daemon.socket}
    done = subprocess.run(
        ["bash", "-c", commands], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "proposals"),
    [
        (["ne"], ["network"]),
        (["do"], ["doctor"]),
        (["network", "in"], ["inspect"]),
        (["network", "create", "--ip"], ["--ip-range", "--ipam-driver", "--ipam-opt", "--ipv4", "--ipv6"]),
        (["network", "create", ""], []),
        (["network", "rm", ""], ["db", "web"]),
        (["network", "rm", "web", ""], ["db", "web"]),
        (["network", "remove", "w"], ["web"]),
        (["network", "connect", "web", ""], ["back", "front"]),
        (["network", "connect", "--ip", "10.0.0.2", "-p", "80", "web", "f"], ["front"]),
        (["network", "connect", "--ip", ""], []),
        (["network", "ls", ""], []),
        (["endpoint", "join", "web/f"], ["web/front"]),
        (["endpoint", "join", "web/front", "b"], ["back"]),
        (["port", "add", "f"], ["front"]),
        (["port", "add", "front", ""], []),
        (["port", "a"], ["add"]),
        (["import", "pyproj"], ["pyproject.toml"]),
        (["cp", "pyproj"], ["pyproject.toml"]),
        (["network", "rm", "network", "d"], ["db"]),
        (["doctor", "--r"], ["--repair"]),
        (["nonsense", ""], []),
    ],
    ids=" ".join,
)
def test_tab_proposes_what_may_stand_there(
    daemon: FakeDaemon, tmp_path: Path, words: list[str], proposals: list[str]
) -> None:
    assert proposed(daemon, tmp_path, *words) == proposals


def test_names_come_from_the_daemon_of_the_command_line(daemon: FakeDaemon, tmp_path: Path) -> None:
    with fake_daemon() as other:
        other.answers("GET", "/networks", [network("elsewhere")])

        assert proposed(daemon, tmp_path, "-H", other.socket, "network", "rm", "") == ["elsewhere"]


@pytest.mark.parametrize(
    ("words", "proposals"),
    [
        (["rm", ""], ["one", "two"]),
        (["container", "stop", "o"], ["one"]),
        (["port", ""], ["add", "ls", "one", "rm", "two"]),
        (["cp", "t"], ["tests", "two:"]),
        (["inspect", ""], ["db", "image:1", "one", "two", "web"]),
        (["rmi", ""], ["image:1"]),
    ],
    ids=" ".join,
)
def test_containers_and_images_are_the_launchers(
    daemon: FakeDaemon, tmp_path: Path, words: list[str], proposals: list[str]
) -> None:
    """A socket that is not called as cnmd's is one of the Engine API."""
    containers = [{"Id": "1" * 64, "Names": [f"/{name}"], "Created": 0} for name in ("one", "two")]
    image = {"Id": f"sha256:{'2' * 64}", "RepoTags": ["image:1"], "RepoDigests": [], "Created": 0, "Size": 0}
    daemon.answers("GET", "/containers/json", containers)
    daemon.answers("GET", "/images/json", [image])

    assert proposed(daemon, tmp_path, *words) == proposals


def test_away_daemon_proposes_nothing_in_silence(daemon: FakeDaemon, tmp_path: Path) -> None:
    assert proposed(daemon, tmp_path, "-H", "/nowhere/s", "network", "rm", "") == []
