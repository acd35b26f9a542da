"""A cnmd that starts, or repairs, where somebody else is at home: it refuses in one line, and touches nothing."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures.namespace import Namespace
from tests.support.cnmd import Cnmd, running
from tests.support.daemon_starts import from_nothing

_SQUATTER = """
import socket, sys
squatter = socket.socket(socket.AF_UNIX)
squatter.bind("\\0cnmd")
squatter.listen()
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cnmd(tmp_path: Path) -> Iterator[Cnmd]:
    with running(tmp_path, from_nothing()) as daemon:
        yield daemon


def refusal(root: Path, run: Path, *enter: str) -> str:
    """What another cnmd says that does not start."""
    command = [*enter, sys.executable, "-m", "cnm.daemon", "--root", str(root), "--run", str(run)]
    ended = subprocess.run([*command, "--log-level", "error"], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_a_second_daemon_of_a_namespace_is_refused_and_the_first_goes_on(cnmd: Cnmd, tmp_path: Path) -> None:
    cnmd.create_sandbox("box")
    cnmd.create_network("net")
    cnmd.connect("net", "box")

    said = refusal(tmp_path / "other-root", tmp_path / "other-run")

    assert cnmd.process is not None
    assert said == (
        f"cnmd: another cnmd (process {cnmd.process.pid}) runs in this network namespace: stop it first\n"
    )
    assert cnmd.findings() == []


def test_a_second_daemon_of_a_run_directory_is_refused_and_its_sandboxes_stay(
    cnmd: Cnmd, tmp_path: Path
) -> None:
    cnmd.create_sandbox("box")

    said = refusal(tmp_path / "other-root", tmp_path / "run", "unshare", "--net")

    assert cnmd.process is not None
    assert said == (
        f"cnmd: another cnmd (process {cnmd.process.pid}) uses {tmp_path}/run:"
        " stop it, or give this one another --run\n"
    )
    assert cnmd.findings() == []


def test_a_second_daemon_of_a_root_directory_is_refused(cnmd: Cnmd, tmp_path: Path) -> None:
    said = refusal(tmp_path / "root", tmp_path / "other-run", "unshare", "--net")

    assert said == (
        f"cnmd: cannot open {tmp_path}/root/cnm.db: database is locked;"
        " is another cnmd using this root directory?\n"
    )
    cnmd.create_network("net")


def test_a_killed_daemon_leaves_no_claim(cnmd: Cnmd) -> None:
    cnmd.kill()

    cnmd.start()

    assert cnmd.findings() == []


def test_a_user_cannot_keep_cnmd_from_starting(tmp_path: Path) -> None:
    command = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", _SQUATTER]
    squatter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert squatter.stdout is not None
    squatter.stdout.readline()

    try:
        with running(tmp_path, from_nothing()) as daemon:
            assert daemon.findings() == []
            assert f"process {squatter.pid} of user 65534 poses as cnmd" in daemon.log
    finally:
        squatter.communicate()


def test_a_database_of_another_program_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "root" / "cnm.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE network (name TEXT)")
    database.close()
    before = path.read_bytes()

    said = refusal(tmp_path / "root", tmp_path / "run")

    assert said == f"cnmd: {path} is a database of another program: move it away, or use another --root\n"
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root" / "cnm.db"
    path.parent.mkdir()
    path.write_text("shopping list\n" * 100)

    said = refusal(tmp_path / "root", tmp_path / "run")

    assert said.startswith(f"cnmd: {path} is not a store of cnmd: ")
    assert path.read_text() == "shopping list\n" * 100


def test_the_store_of_a_newer_cnmd_is_refused(cnmd: Cnmd, tmp_path: Path) -> None:
    cnmd.stop()
    path = tmp_path / "root" / "cnm.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    said = refusal(tmp_path / "root", tmp_path / "run")

    assert said == (f"cnmd: {path} was written by a newer cnmd (schema 99): upgrade, or use another --root\n")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    cnmd.start()


def test_a_namespace_that_somebody_keeps_beside_ours_stays(cnmd: Cnmd, tmp_path: Path) -> None:
    cnmd.create_sandbox("box")
    theirs, orphan = tmp_path / "run" / "netns" / "theirs", tmp_path / "run" / "netns" / ("0" * 11 + "a")
    Namespace.create(theirs)
    Namespace.create(orphan)

    found = cnmd.findings()
    cnmd.ask("POST", "/cnm/v1/repair")
    cnmd.restart()

    assert [finding["Object"] for finding in found] == [str(orphan)]
    with Namespace(theirs).enter():
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert not orphan.exists()
