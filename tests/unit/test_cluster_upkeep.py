"""What a restoration needs on its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.errors import InvalidParameter, NotFound
from cnm.membership import upkeep


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the path, empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "saved"
    path.write_bytes(b"1")
    return str(path)


def put_program(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_without_etcdctl_it_is_said_what_to_install(programs: Path, saved: str) -> None:
    with pytest.raises(
        NotFound, match=r"^etcdctl is not installed on this host: install the package etcd-client$"
    ):
        upkeep.check_restorable(saved, "")


def test_etcdutl_comes_first(programs: Path, saved: str) -> None:
    put_program(programs, "etcdctl")
    assert upkeep.check_restorable(saved, "") == (Path(saved), str(programs / "etcdctl"))

    put_program(programs, "etcdutl")

    assert upkeep.check_restorable(saved, "") == (Path(saved), str(programs / "etcdutl"))


def test_it_is_found_beside_the_etcd_that_was_set(programs: Path, tmp_path: Path, saved: str) -> None:
    elsewhere = tmp_path / "opt"
    elsewhere.mkdir()
    put_program(elsewhere, "etcdctl")

    assert upkeep.check_restorable(saved, str(elsewhere / "etcd"))[1] == str(elsewhere / "etcdctl")


def test_a_snapshot_that_is_not_there_is_told(programs: Path) -> None:
    put_program(programs, "etcdctl")

    with pytest.raises(NotFound, match=r"^no snapshot /nowhere: it must be on this host$"):
        upkeep.check_restorable("/nowhere", "")
    with pytest.raises(InvalidParameter, match="is not an absolute path"):
        upkeep.check_restorable("saved", "")
