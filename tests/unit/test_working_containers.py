"""Layers of working containers that nobody has any more go; whatever somebody may have stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from cnm.errors import CnmError
from cnm.launcher.storage import Storage
from cnm.launcher.working_containers import drop_layers, without_notes
from tests.support.small_containers import eventually

_IMAGES, _MAPPED, _CONTAINERS, _BETWEEN, _ABOVE = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)
_NOBODYS, _HALF = "1" * 64, "2" * 64
_STAY = {_IMAGES, _MAPPED, _CONTAINERS, _BETWEEN, _ABOVE}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a layer of each kind: all have a folder."""
    _write(
        tmp_path,
        "layers",
        [
            {"id": _IMAGES, "diff-digest": "sha256:1", "compression": 2, "uidset": [0], "x": {"y": 1.50}},
            {"id": _MAPPED},
            {"id": _CONTAINERS, "parent": _IMAGES},
            {"id": _BETWEEN},
            {"id": _ABOVE, "parent": _BETWEEN, "diff-digest": "sha256:2"},
            {"id": _NOBODYS, "parent": _IMAGES},
            {"id": _HALF, "parent": _IMAGES, "diff-digest": "sha256:3", "flags": {"incomplete": True}},
        ],
    )
    _write(tmp_path, "images", [{"id": "i" * 64, "layer": _IMAGES, "mapped-layers": [_MAPPED]}])
    _write(tmp_path, "containers", [{"id": "0" * 64, "layer": _CONTAINERS}])
    for layer in (*_STAY, _NOBODYS, _HALF):
        (tmp_path / "overlay" / layer / "diff/usr").mkdir(parents=True)
    return tmp_path


def _write(root: Path, what: str, entries: list[dict[str, object]]) -> None:
    (root / f"overlay-{what}").mkdir(exist_ok=True)
    (root / f"overlay-{what}" / f"{what}.json").write_text(json.dumps(entries))


def _listed(root: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((root / "overlay-layers/layers.json").read_text())
    return found


def test_what_nobody_has_goes_and_the_others_stay_as_they_were(root: Path) -> None:
    before = _listed(root)

    drop_layers(Storage(str(root)))

    assert set(os.listdir(root / "overlay")) == _STAY
    assert _listed(root) == [each for each in before if each["id"] in _STAY]
    assert sorted(os.listdir(root / "overlay-layers")) == ["layers.json", "layers.lock"]


def test_layers_that_are_kept_stay(root: Path) -> None:
    drop_layers(Storage(str(root)), [_NOBODYS])

    assert set(os.listdir(root / "overlay")) == _STAY | {_NOBODYS}


def test_nothing_is_written_where_nothing_goes(root: Path) -> None:
    drop_layers(Storage(str(root)))
    before = Storage(str(root)).version()

    drop_layers(Storage(str(root)))

    assert Storage(str(root)).version() == before


def test_containers_of_newer_stores_short_lived_list_have_layers_too(root: Path) -> None:
    (root / "overlay-containers/volatile-containers.json").write_text(
        json.dumps([{"id": "3" * 64, "layer": _NOBODYS}])
    )

    drop_layers(Storage(str(root)))

    assert set(os.listdir(root / "overlay")) == _STAY | {_NOBODYS}


@pytest.mark.parametrize("what", ["layers", "images", "containers"])
def test_nothing_goes_where_a_list_is_damaged(root: Path, what: str) -> None:
    before = set(os.listdir(root / "overlay"))
    (root / f"overlay-{what}" / f"{what}.json").write_text("[{")

    with pytest.raises(CnmError, match=f"{what}.json is damaged"):
        drop_layers(Storage(str(root)))
    assert set(os.listdir(root / "overlay")) == before


def test_what_a_kill_has_left_of_the_same_goes(root: Path) -> None:
    """The folder is gone, and another list is half written."""
    (root / "overlay" / _NOBODYS / "diff/usr").rmdir()
    (root / "overlay" / _NOBODYS / "diff").rmdir()
    (root / "overlay" / _NOBODYS).rmdir()
    (root / "overlay-layers/layers.json.new").write_text("[{")

    drop_layers(Storage(str(root)))

    assert {each["id"] for each in _listed(root)} == _STAY
    assert sorted(os.listdir(root / "overlay-layers")) == ["layers.json", "layers.lock"]


# Somebody who makes a container has the lists locked

_LOCKS = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
containers = sys.stdin.read()
open(sys.argv[2], "w").write(containers)
"""


@contextmanager
def _making(root: Path) -> Iterator[IO[str]]:
    """Somebody who has made a layer, and notes as its container what is written here, when no more comes."""
    lock, path = root / "overlay-layers/layers.lock", root / "overlay-containers/containers.json"
    command = [sys.executable, "-c", _LOCKS, str(lock), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        yield process.stdin
        process.stdin.close()


def test_a_layer_whose_container_is_being_noted_stays(root: Path) -> None:
    containers = [{"id": "0" * 64, "layer": _CONTAINERS}, {"id": "4" * 64, "layer": _NOBODYS}]
    dropping = threading.Thread(target=drop_layers, args=[Storage(str(root))])
    with _making(root) as maker:
        dropping.start()
        eventually(lambda: _waits_for(root / "overlay-layers/layers.lock"))
        maker.write(json.dumps(containers))
    dropping.join(20)

    assert set(os.listdir(root / "overlay")) == _STAY | {_NOBODYS}


def _waits_for(lock: Path) -> bool:
    """Whether somebody does, in this process (proc(5), /proc/locks)."""
    waiting = f"-> POSIX  ADVISORY  WRITE {os.getpid()} "
    inode = f":{lock.stat().st_ino} "
    return any(waiting in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_containers_without_notes_are_halves(root: Path) -> None:
    whole = root / "overlay-containers" / ("0" * 64) / "userdata/buildah.json"
    assert without_notes(Storage(str(root))) == ["0" * 64]

    whole.parent.mkdir(parents=True)
    whole.write_text("{}")

    assert without_notes(Storage(str(root))) == []
