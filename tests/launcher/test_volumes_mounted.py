"""Mounts of volumes in a namespace where mounts are shared, as systemd has them: what ends here stays at its source."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError, Conflict
from cnm.events import EventBus
from cnm.launcher.views import Inner, sweep, view
from cnm.launcher.volumes.mounted import is_mounted
from cnm.launcher.volumes.volumes import Volumes


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A shared mount with another in it, at `source` and `source/inner`, and an empty folder `volumes` in it."""
    _mount("-t", "tmpfs", "tmpfs", str(tmp_path))
    _mount("--make-shared", str(tmp_path))
    for name in ("source/inner", "volumes", "views", "root"):
        (tmp_path / name).mkdir(parents=True)
    _mount("-t", "tmpfs", "tmpfs", str(tmp_path / "source/inner"))
    (tmp_path / "source/inner/file").write_text("mine")
    yield tmp_path
    subprocess.run(["umount", "--recursive", str(tmp_path)], check=True)


@pytest.fixture
def volumes(place: Path) -> Volumes:
    return Volumes(str(place / "volumes"), EventBus())


def _bound(volumes: Volumes, place: Path, options: str) -> str:
    device = {"type": "none", "device": str(place / "source"), "o": options}
    return volumes.path(volumes.create("bound", options=device)[0])


def test_unmounting_a_recursive_bind_leaves_what_is_mounted_in_its_source(
    volumes: Volumes, place: Path
) -> None:
    path = _bound(volumes, place, "rbind")
    volumes.mount("bound", "c1")
    assert Path(path, "inner/file").read_text() == "mine"

    volumes.unmount("bound", "c1")
    volumes.remove("bound")

    assert not Path(path).exists()
    assert (place / "source/inner/file").read_text() == "mine"


def test_a_bind_is_there_once_however_many_have_it(volumes: Volumes, place: Path) -> None:
    path = _bound(volumes, place, "bind,ro")
    for user in ("c1", "c2"):
        volumes.mount("bound", user)
    with pytest.raises(OSError, match="Read-only"):
        Path(path, "x").touch()

    volumes.unmount("bound", "c1")
    assert is_mounted(path)
    volumes.unmount("bound", "c2")
    assert not is_mounted(path)


def test_what_somebody_has_mounted_in_a_volume_is_never_deleted(volumes: Volumes, place: Path) -> None:
    path = volumes.path(volumes.create("mine")[0])
    _mount("--bind", str(place / "source/inner"), path)

    with pytest.raises(Conflict, match=f"{path} is a mount: unmount it first"):
        volumes.remove("mine")
    assert (place / "source/inner/file").read_text() == "mine"
    subprocess.run(["umount", path], check=True)
    volumes.remove("mine")


def test_a_view_ends_without_a_trace(place: Path) -> None:
    inner = [Inner(str(place / "source"), "/deep/er", True), Inner(str(place / "source"), "/ro", False)]

    with view(str(place / "views"), str(place / "root"), inner) as seen:
        assert Path(seen, "deep/er/inner/file").read_text() == "mine"
        with pytest.raises(OSError, match="Read-only"):
            Path(seen, "ro/x").touch()
        Path(seen, "deep/er/new").touch()
        assert list((place / "root/deep/er").iterdir()) == []

    assert list((place / "views").iterdir()) == []
    assert sorted(path.name for path in (place / "source").iterdir()) == ["inner", "new"]
    assert (place / "source/inner/file").read_text() == "mine"


def test_a_view_that_a_kill_left_goes_without_what_is_in_it(place: Path) -> None:
    left = view(str(place / "views"), str(place / "root"), [Inner(str(place / "source"), "/x", True)])
    left.__enter__()

    sweep(str(place / "views"))

    assert list((place / "views").iterdir()) == []
    assert (place / "source/inner/file").read_text() == "mine"


def test_a_view_never_leads_out_of_its_root(place: Path) -> None:
    (place / "root/source").mkdir()
    (place / "root/escape").symlink_to("/source")

    with view(str(place / "views"), str(place / "root"), [Inner(str(place / "source"), "/escape/x", True)]):
        assert (place / "root/source/x").is_dir()
    with (
        pytest.raises(CnmError, match="cannot look into"),
        view(str(place / "views"), str(place / "root"), [Inner(str(place / "nosuch"), "/y", True)]),
    ):
        pass
    assert list((place / "views").iterdir()) == []
