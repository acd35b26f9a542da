"""A disk that is full while images are loaded, imported and committed: told, undone, and the next smaller one works."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.image_archives import archive
from tests.support.image_store import tar, text
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.small_disk import filled, free, on_small_disk

_ROOM = 32 << 20
"""Bytes of the disk that the launcher has for everything."""
_FULL = "no space left on device"
_SMALL = archive("team/small:1", layers=[tar(text("small", "s"))]).content


@pytest.fixture(scope="module")
def small() -> Iterator[Launcher]:
    with on_small_disk(_ROOM) as launcher:
        yield launcher


@pytest.fixture
def launcher(small: Launcher) -> Iterator[Launcher]:
    yield small
    small.clear()
    for name in small.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if name != f"{IMAGE}:latest":
            small.docker("rmi", "-f", name)


def _zeros(size: int) -> bytes:
    return tar(text("zeros", "\0" * size))


HUGE = {
    "an archive that has no room": archive("team/huge:1", layers=[_zeros(_ROOM)]).content,
    "an archive whose layers have none": archive(
        "team/huge:1", layers=[_zeros(_ROOM // 3)] * 1 + [_zeros(_ROOM // 3 - 1)]
    ).content,
    "a compressed one": gzip.compress(archive("team/huge:1", layers=[_zeros(_ROOM)]).content, 1),
}


@pytest.mark.parametrize("how", HUGE)
def test_a_load_without_room_is_told_and_leaves_nothing(launcher: Launcher, tmp_path: Path, how: str) -> None:
    (tmp_path / "huge").write_bytes(HUGE[how])

    said = launcher.fails("load", "-i", str(tmp_path / "huge"))[1]

    _check(launcher, said, tmp_path)


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("share", [1, 2])
def test_an_import_without_room_is_told_and_leaves_nothing(
    launcher: Launcher, tmp_path: Path, is_compressed: bool, share: int
) -> None:
    """Of a tar that has no room itself, and of one that has, but not as a layer beside it."""
    content = _zeros(_ROOM // share if share == 1 else _ROOM // 2 + (1 << 20))
    (tmp_path / "huge").write_bytes(gzip.compress(content, 1) if is_compressed else content)

    said = launcher.fails("import", str(tmp_path / "huge"), "team/huge:1")[1]

    _check(launcher, said, tmp_path)


def test_a_commit_without_room_is_told_and_leaves_the_container(launcher: Launcher, tmp_path: Path) -> None:
    writes = f"head -c {_ROOM // 2} /dev/zero >/zeros; sleep 1000"
    launcher.docker("run", "-d", "--name", "writer", IMAGE, "sh", "-c", writes)
    launcher.docker("exec", "writer", "sh", "-c", f"until [ $(wc -c </zeros) = {_ROOM // 2} ]; do :; done")

    said = launcher.fails("commit", "writer", "team/huge:1")[1]

    assert _FULL in said
    assert launcher.docker("inspect", "-f", "{{.State.Status}}", "writer") == "running"
    launcher.docker("rm", "-f", "writer")
    _check(launcher, said, tmp_path)


def _check(launcher: Launcher, said: str, place: Path) -> None:
    assert _FULL in said
    assert "internal error" not in said
    assert len(said.splitlines()) == 1, said
    assert launcher.docker("images", "--format", "{{.Repository}}") == IMAGE
    assert left(launcher) == []
    assert "Traceback" not in launcher.log
    (place / "small").write_bytes(_SMALL)
    assert launcher.docker("load", "-i", str(place / "small")) == "Loaded image: team/small:1"


def test_a_launcher_starts_on_a_full_disk_and_has_its_images(launcher: Launcher) -> None:
    launcher.kill()
    with filled(launcher):
        launcher.start()

        assert launcher.docker("images", "--format", "{{.Repository}}") == IMAGE
        assert launcher.docker("system", "df")
    assert launcher.docker("run", "--rm", IMAGE, "echo", "runs") == "runs"
    assert left(launcher) == []


@pytest.mark.parametrize("flags", [{}, {"incomplete": True}], ids=["of a container", "incomplete"])
def test_a_layer_that_a_kill_has_left_makes_room_at_the_next_start(
    launcher: Launcher, flags: dict[str, bool]
) -> None:
    half, storage = "2" * 64, launcher.place / "root/launcher/storage"
    layers = storage / "overlay-layers/layers.json"
    launcher.kill()
    (storage / "overlay" / half / "diff").mkdir(parents=True)
    (storage / "overlay" / half / "diff/large").write_bytes(bytes(1 << 20))
    entry = {"id": half, "created": "2024-01-01T00:00:00Z", "flags": flags}
    layers.write_text(json.dumps([*json.loads(layers.read_text()), entry]))
    with filled(launcher):
        launcher.start()

        assert half not in layers.read_text()
        assert free(launcher) > 1 << 19
    assert left(launcher) == []
