"""Volumes on the disk: their records, who has them, and the copy of an image's files into a new one."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from cnm.errors import CnmError, Conflict, InvalidParameter, NotBuilt, NotFound, Unavailable
from cnm.events import EventBus
from cnm.launcher.volumes import copy_up as copying
from cnm.launcher.volumes.copy_up import STAGING, copy_up
from cnm.launcher.volumes.drivers import Kept, NoPlugins, Scope, VolumeDriver
from cnm.launcher.volumes.local_options import Device, check, device
from cnm.launcher.volumes.records import folder_of
from cnm.launcher.volumes.volumes import UNKNOWN_SIZE, Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    (tmp_path / "volumes").mkdir()
    return Volumes(str(tmp_path / "volumes"), EventBus())


def _again(volumes: Volumes) -> Volumes:
    """As the next launcher finds them."""
    found = Volumes(volumes._place, EventBus())
    found.load()
    return found


# Records


def test_a_volume_is_found_by_the_next_launcher(volumes: Volumes) -> None:
    made, is_new = volumes.create("data", labels={"a": "b"})
    again, is_new_again = volumes.create("data")

    assert (is_new, is_new_again, again) == (True, False, made)
    assert _again(volumes).find("data") == made
    assert Path(volumes.path(made)).is_dir()


def test_of_a_volume_that_is_removed_nothing_stays(volumes: Volumes) -> None:
    volumes.create("data")
    Path(volumes.path(volumes.find("data")), "deep").mkdir()

    volumes.remove("data")

    assert os.listdir(volumes._place) == []
    with pytest.raises(NotFound, match=r"^get data: no such volume$"):
        volumes.remove("data")
    volumes.remove("data", force=True)


def test_who_has_a_volume_keeps_it(volumes: Volumes) -> None:
    volumes.create("data", container="c1")
    volumes.create("data", container="c2")

    with pytest.raises(Conflict, match=r"^remove data: volume is in use - \[c1, c2\]$"):
        volumes.remove("data")
    assert volumes.prune(lambda _: True) == ([], 0)
    volumes.use.drop(["data"], "c1")
    volumes.use.drop(["data"], "c2")
    assert volumes.prune(lambda _: True) == (["data"], 0)


def test_a_removal_that_was_cut_off_is_finished(volumes: Volumes) -> None:
    volumes.create("data")
    os.rename(Path(volumes._place, "data"), Path(volumes._place, ".going-1"))

    assert _again(volumes).all().volumes == []
    assert os.listdir(volumes._place) == []


def test_a_creation_that_was_cut_off_leaves_nothing(volumes: Volumes) -> None:
    volumes.create("data")
    Path(volumes._place, "data", "volume.json").unlink()

    assert _again(volumes).all().volumes == []
    assert os.listdir(volumes._place) == []


def test_content_without_a_record_becomes_a_volume(volumes: Volumes) -> None:
    volumes.create("data")
    Path(volumes._place, "data", "volume.json").unlink()
    Path(volumes._place, "data", "_data", "precious").write_text("x")

    assert [each.name for each in _again(volumes).all().volumes] == ["data"]
    assert [each.name for each in _again(volumes).all().volumes] == ["data"]


def test_a_record_that_cannot_be_read_is_left_alone(volumes: Volumes) -> None:
    volumes.create("data")
    Path(volumes._place, "data", "volume.json").write_text("{")

    assert _again(volumes).all().volumes == []
    assert Path(volumes._place, "data", "_data").is_dir()


def test_a_size_is_that_of_the_files(volumes: Volumes) -> None:
    made, _ = volumes.create("data")
    Path(volumes.path(made), "file").write_bytes(bytes(3000))
    other, _ = volumes.create("other", options={"type": "tmpfs", "device": "tmpfs"})

    assert volumes.size(made) == 3000
    assert volumes.size(other) == UNKNOWN_SIZE


# Users


def test_users_and_the_last_use_survive(volumes: Volumes) -> None:
    made, _ = volumes.create("data")
    assert volumes.last_use("data") == 0

    path = volumes.mount("data", "c1")
    volumes.mount("data", "c1")

    assert path == volumes.path(made)
    after = _again(volumes)
    assert after.mounted_by("data") == ["c1"]
    assert after.last_use("data") > 0
    assert (after.unmount("data", "c1"), after.unmount("data", "c1")) == (True, False)
    after.remove("data")


def test_who_does_not_run_is_swept(volumes: Volumes) -> None:
    volumes.create("data")
    for user in ("c1", "c2"):
        volumes.mount("data", user)

    volumes.sweep({"c2"})

    assert volumes.mounted_by("data") == ["c2"]


# Drivers


class Remote:
    """A driver whose volumes are elsewhere; `failure` is what every change of a mount raises."""

    name, scope = "remote", Scope.GLOBAL

    def __init__(self) -> None:
        self.volumes: dict[str, set[str]] = {}
        self.failure: CnmError | None = None

    def create(self, name: str, options: Mapping[str, str]) -> None:
        self.volumes.setdefault(name, set())

    def remove(self, name: str) -> None:
        self._fail()
        self.volumes.pop(name, None)

    def mount(self, name: str, user: str) -> str:
        self._fail()
        self.volumes[name].add(user)
        return f"/remote/{name}"

    def unmount(self, name: str, user: str) -> None:
        self._fail()
        self.volumes[name].discard(user)

    def path(self, name: str) -> str:
        return ""

    def get(self, name: str) -> Kept:
        if name not in self.volumes:
            raise NotFound(f"get {name}: no such volume")
        return Kept(name=name)

    def list(self) -> list[Kept]:
        self._fail()
        return [Kept(name=name, mountpoint=f"/remote/{name}") for name in self.volumes]

    def _fail(self) -> None:
        if self.failure:
            raise self.failure


class OnlyRemote(NamedTuple):
    driver: Remote

    def find(self, name: str) -> VolumeDriver:
        return self.driver if name == self.driver.name else NoPlugins().find(name)

    def known(self) -> list[VolumeDriver]:
        return [self.driver]


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def both(volumes: Volumes, remote: Remote) -> Volumes:
    return Volumes(volumes._place, EventBus(), OnlyRemote(remote))


def test_a_volume_of_another_host_is_seen_and_used(both: Volumes, remote: Remote) -> None:
    remote.create("theirs", {})

    found = both.all()
    assert ([each.name for each in found.volumes], found.paths) == (["theirs"], {"theirs": "/remote/theirs"})
    volume, is_new = both.create("theirs", container="c1")

    assert (volume.driver, volume.scope, is_new) == ("remote", Scope.GLOBAL, False)


def test_a_name_is_one_driver_s(both: Volumes) -> None:
    both.create("mine", "remote")

    with pytest.raises(
        Conflict, match=r"driver 'remote' already has volume 'mine': volume name must be unique"
    ):
        both.create("mine", "local")
    with pytest.raises(NotFound, match=r'plugin "nosuch" not found'):
        both.create("other", "nosuch")


def test_a_prune_leaves_what_another_host_may_have(both: Volumes, remote: Remote) -> None:
    both.create("theirs", "remote")
    both.create("mine")

    assert both.prune(lambda _: True)[0] == ["mine"]
    assert list(remote.volumes) == ["theirs"]


def test_a_driver_that_was_away_is_told_of_the_end_of_a_mount_later(both: Volumes, remote: Remote) -> None:
    both.create("theirs", "remote")
    both.mount("theirs", "c1")
    remote.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        both.unmount("theirs", "c1")
    both.sweep(set())
    assert (both.mounted_by("theirs"), both.all().warnings) == (["c1"], ["away"])
    with pytest.raises(Unavailable):
        both.remove("theirs")

    remote.failure = None
    both.sweep(set())

    assert remote.volumes == {"theirs": set()}
    both.remove("theirs")
    assert (remote.volumes, os.listdir(both._place)) == ({}, [])


def test_a_volume_whose_driver_is_gone_can_be_forgotten(both: Volumes, remote: Remote) -> None:
    both.create("theirs", "remote")
    remote.failure = Unavailable("away")

    both.remove("theirs", force=True)

    assert os.listdir(both._place) == []


# Names and options


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x", "volume name is too short"),
        ("../x", "includes invalid characters for a local volume name"),
        ("a/b", "includes invalid characters"),
        (".x", "includes invalid characters"),
        ("a" * 256, "too long"),
    ],
)
def test_a_name_that_is_no_volume_s_is_refused(volumes: Volumes, name: str, why: str) -> None:
    with pytest.raises(InvalidParameter, match=why):
        volumes.create(name)
    assert os.listdir(volumes._place) == []


def test_folders_of_strange_names_stay_below_their_place() -> None:
    folders = [folder_of(name) for name in ("..", ".", "a/b", "%2E.", ".going-1", "data")]

    assert len(set(folders)) == len(folders)
    assert not any("/" in folder or folder.startswith(".") for folder in folders)


def test_options_become_what_the_kernel_is_asked_for() -> None:
    assert device({}) is None
    assert device({"type": "none", "device": "/srv", "o": "bind,ro"}) == Device("/srv", "none", 0x1001, "")
    assert device({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid,suid,uid=7"}) == Device(
        "tmpfs", "tmpfs", 0, "size=1m,uid=7"
    )
    nfs = device({"type": "nfs", "device": ":/x", "o": "addr=127.0.0.1,rw"})
    assert nfs == Device(":/x", "nfs", 0, "addr=127.0.0.1")


def test_options_that_say_too_little_or_too_much_are_refused() -> None:
    with pytest.raises(InvalidParameter, match=r'^invalid option: "foo"$'):
        check({"foo": "1"})
    with pytest.raises(InvalidParameter, match=r'^missing required option: "device"$'):
        check({"type": "tmpfs"})
    with pytest.raises(NotBuilt, match="quota"):
        check({"size": "1g"})


# Copy-up


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A directory as an image has one: files, links, a pipe, owners, modes and times."""
    place = tmp_path / "image"
    (place / "inner").mkdir(parents=True)
    (place / "file").write_text("content")
    os.link(place / "file", place / "inner" / "same")
    (place / "link").symlink_to("/etc/../nowhere")
    os.mkfifo(place / "pipe")
    os.chown(place / "file", 7, 8)
    (place / "file").chmod(0o4755)
    os.setxattr(place / "file", "user.note", b"x")
    os.utime(place / "inner", ns=(1_000_000_001, 2_000_000_002))
    os.chown(place, 5, 6)
    place.chmod(0o1777)
    return place


def _copied(image: Path, target: Path) -> bool:
    source = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return copy_up(source, str(target))
    finally:
        os.close(source)


def _look(place: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([place, *place.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        link = os.readlink(path) if path.is_symlink() else ""
        attributes = os.listxattr(path, follow_symlinks=False)
        what = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, link, attributes)
        found[str(path.relative_to(place))] = what
    return found


def test_a_new_volume_takes_everything_that_the_image_has(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    assert _copied(image, target)

    assert _look(target) == _look(image)
    assert (target / "file").samefile(target / "inner" / "same")


def test_a_volume_with_content_stays_as_it_is(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("x")
    before = _look(target)

    assert not _copied(image, target)

    assert _look(target) == before


def test_of_an_empty_directory_the_volume_takes_mode_and_owner(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for path in image.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    assert _copied(image, target)

    assert _look(target) == _look(image)


def test_a_copy_that_was_cut_off_is_made_anew(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / STAGING / "tree").mkdir(parents=True)
    (target / STAGING / "tree" / "file").write_text("half")

    assert copying.is_interrupted(str(target))
    assert _copied(image, target)

    assert _look(target) == _look(image)


def test_a_copy_that_was_whole_when_it_was_cut_off_is_finished(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / STAGING).mkdir(parents=True)
    shutil.copytree(image / "inner", target / STAGING / "whole")
    (target / "same").write_text("somebody's own")

    copying.finish(str(target))

    assert [path.name for path in target.iterdir()] == ["same"]
    assert (target / "same").read_text() == "somebody's own"


def test_a_full_disk_leaves_nothing_half_copied(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.mkdir()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28), "/x")

    monkeypatch.setattr("cnm.launcher.volumes.copy_up._make", full)
    with pytest.raises(CnmError, match="no space left on device"):
        _copied(image, target)

    assert list(target.iterdir()) == []
