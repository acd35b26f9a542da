"""Volumes on the disk: their records, who has them, and the copy of an image's files into a new one."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from cnm.errors import CnmError, Conflict, InvalidParameter, NotBuilt, NotFound, Unavailable
from cnm.events import EventBus
from cnm.launcher.volumes import copy_up as copying
from cnm.launcher.volumes.copy_up import copy_up
from cnm.launcher.volumes.drivers import Kept, NoPlugins, Scope, VolumeDriver
from cnm.launcher.volumes.local_options import Device, check, device
from cnm.launcher.volumes.records import folder_of
from cnm.launcher.volumes.size import UNKNOWN_SIZE
from cnm.launcher.volumes.volume import Volume
from cnm.launcher.volumes.volumes import Volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    (tmp_path / "volumes").mkdir()
    return Volumes(str(tmp_path / "volumes"), EventBus())


def _place(volumes: Volumes) -> str:
    return os.path.dirname(volumes.folder("any"))


def _again(volumes: Volumes) -> Volumes:
    """As the next launcher finds them."""
    found = Volumes(_place(volumes), EventBus())
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

    assert os.listdir(_place(volumes)) == []
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
    os.rename(Path(_place(volumes), "data"), Path(_place(volumes), ".going-1"))

    assert _again(volumes).all().volumes == []
    assert os.listdir(_place(volumes)) == []


def test_a_creation_that_was_cut_off_leaves_nothing(volumes: Volumes) -> None:
    volumes.create("data")
    Path(_place(volumes), "data", "volume.json").unlink()

    assert _again(volumes).all().volumes == []
    assert os.listdir(_place(volumes)) == []


def test_content_without_a_record_becomes_a_volume(volumes: Volumes) -> None:
    volumes.create("data")
    Path(_place(volumes), "data", "volume.json").unlink()
    Path(_place(volumes), "data", "_data", "precious").write_text("x")

    assert [each.name for each in _again(volumes).all().volumes] == ["data"]
    assert [each.name for each in _again(volumes).all().volumes] == ["data"]


def _damaged(volumes: Volumes, text: str = "{") -> Volumes:
    """With content in the volume `data`, whose record says `text`, as the next launcher finds it."""
    volumes.create("data")
    Path(volumes.path(volumes.find("data")), "precious").write_bytes(bytes(3000))
    Path(_place(volumes), "data", "volume.json").write_text(text)
    return _again(volumes)


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "cannot be read: Input data was truncated"), ('{"name": "other"}', "is that of volume other")],
)
def test_a_volume_whose_record_says_nothing_is_shown_and_left_alone(
    volumes: Volumes, text: str, why: str
) -> None:
    found = _damaged(volumes, text)

    listed = found.all()
    assert [each.name for each in listed.volumes] == ["data"]
    assert why in listed.statuses["data"]["Error"]
    assert found.size(found.find("data")) == 3000 + len(text)
    acts: list[Callable[[], object]] = [
        lambda: found.create("data"),
        lambda: found.mount("data", "c1"),
        lambda: found.remove("data"),
        lambda: found.hold("data", "it is on its way to host h2", lambda volume: None),
    ]
    for act in acts:
        with pytest.raises(Conflict, match="or remove it with docker volume rm --force data"):
            act()
    assert (found.prune(lambda _: True), found.mounted_by("data")) == (([], 0), [])
    assert Path(_place(volumes), "data", "_data", "precious").exists()


def test_a_volume_whose_record_says_nothing_is_removed_by_force(volumes: Volumes) -> None:
    found = _damaged(volumes)

    found.remove("data", force=True)

    assert (found.all().volumes, os.listdir(_place(volumes))) == ([], [])
    found.create("data")
    assert found.fault("data") == ""


def test_without_its_damaged_record_a_volume_is_whole_again(volumes: Volumes) -> None:
    _damaged(volumes)
    Path(_place(volumes), "data", "volume.json").unlink()

    assert Path(_again(volumes).mount("data", "c1"), "precious").exists()


@pytest.mark.parametrize("what", ["file", "folder/file", "_data"])
def test_what_somebody_put_into_the_place_of_a_volume_is_never_deleted(volumes: Volumes, what: str) -> None:
    theirs = Path(_place(volumes), "data", what)
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")

    listed = _again(volumes).all()

    assert theirs.read_text() == "precious"
    assert [each.name for each in listed.volumes] == ["data"]
    assert f"it has no record, but {what.split('/')[0]} in {_place(volumes)}/data: move" in str(
        listed.statuses["data"]
    )


def test_what_is_no_volume_s_is_left_alone(volumes: Volumes) -> None:
    Path(_place(volumes), "lost+found").mkdir()
    Path(_place(volumes), "README").write_text("mine")

    assert _again(volumes).all().volumes == []
    assert sorted(os.listdir(_place(volumes))) == ["README", "lost+found"]


@pytest.fixture
def immutable(volumes: Volumes) -> Iterator[Path]:
    """A file in the volume `data` that cannot be deleted while it is so."""
    volumes.create("data")
    path = Path(volumes.path(volumes.find("data")), "file")
    path.write_bytes(bytes(3000))
    if subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode:
        pytest.skip("this file system knows no immutable files")
    yield path
    for left in Path(_place(volumes)).rglob("file"):
        subprocess.run(["chattr", "-i", left], check=True)


def test_what_cannot_be_deleted_of_a_volume_is_listed_until_it_can(volumes: Volumes, immutable: Path) -> None:
    with pytest.raises(CnmError, match=r"/\.going-\w+: file: operation not permitted: it is listed as "):
        volumes.remove("data")

    (left,) = volumes.all().volumes
    assert left.name.startswith(".going-")
    again = _again(volumes)
    assert [each.name for each in again.all().volumes] == [left.name]
    assert (again.size(left) >= 3000, again.create("data")[1]) == (True, True)
    with pytest.raises(CnmError, match="operation not permitted"):
        again.remove(left.name, force=True)
    subprocess.run(["chattr", "-i", Path(_place(volumes), left.name, "_data/file")], check=True)
    again.remove(left.name, force=True)
    assert os.listdir(_place(volumes)) == ["data"]


def test_a_prune_goes_on_behind_what_cannot_be_removed(
    volumes: Volumes, immutable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("good", "mounted", "taken"):
        Path(volumes.path(volumes.create(name)[0]), "file").write_bytes(bytes(3000))
    mounted = volumes.path(volumes.find("mounted"))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)

    def selects(_volume: Volume) -> bool:
        """Meanwhile a container has come that has one."""
        volumes.use.add("taken", "c1")
        return True

    try:
        assert volumes.prune(selects) == (["good"], 3000)
    finally:
        subprocess.run(["umount", mounted], check=True)

    (left,) = [each.name for each in volumes.all().volumes if each.name.startswith(".going-")]
    assert {each.name for each in volumes.all().volumes} == {"mounted", "taken", left}
    assert "volume mounted is not pruned: remove mounted: " in caplog.text
    assert f"volume data is not pruned: remove data: {_place(volumes)}/{left}: " in caplog.text
    assert volumes.prune(lambda _volume: True) == (["mounted"], 3000)


def test_a_size_is_that_of_the_files(volumes: Volumes) -> None:
    made, _ = volumes.create("data")
    Path(volumes.path(made), "file").write_bytes(bytes(3000))
    other, _ = volumes.create("other", options={"type": "tmpfs", "device": "tmpfs"})

    assert volumes.size(made) == 3000
    assert volumes.size(made, seconds=0) == UNKNOWN_SIZE
    assert volumes.size(other) == UNKNOWN_SIZE


def _full(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object] = lambda: None) -> None:
    """The disk has no room for a file's content from now on."""

    def full(descriptor: int) -> None:
        before()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr("cnm.launcher.volumes.records.os.fsync", full)


def test_a_full_disk_is_told_with_the_file_that_it_keeps_from_being_written(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _full(monkeypatch)

    where = f"{_place(volumes)}/data/volume.json"
    with pytest.raises(CnmError, match=f"^create data: {where}: no space left on device$"):
        volumes.create("data")
    assert os.listdir(_place(volumes)) == []


# Put there while the launcher runs


@pytest.fixture
def precious(volumes: Volumes) -> Path:
    """Content that somebody has put among the volumes since the start."""
    made = Path(_place(volumes), "data/_data/precious")
    made.parent.mkdir(parents=True)
    made.write_text("x")
    return made


def test_content_that_was_put_there_outlives_a_creation_on_a_full_disk(
    volumes: Volumes, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _full(patched)
        with pytest.raises(CnmError, match=r"^create data: .*: no space left on device$"):
            volumes.create("data", labels={"a": "b"}, container="c1")

    assert precious.read_text() == "x"
    assert os.listdir(precious.parents[1]) == ["_data"]
    volumes.create("data")
    assert precious.read_text() == "x"


def test_content_that_comes_while_a_volume_is_made_outlives_its_failure(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = Path(_place(volumes), "data/_data/precious")
    _full(monkeypatch, lambda: precious.write_text("x"))

    with pytest.raises(CnmError, match="no space left on device"):
        volumes.create("data")

    assert precious.read_text() == "x"


def test_content_that_was_put_there_is_the_volume_that_is_made(volumes: Volumes, precious: Path) -> None:
    made, is_new = volumes.create("data", labels={"a": "b"})

    assert (is_new, made.labels) == (False, None)
    assert [each.name for each in volumes.all().volumes] == ["data"]
    assert _again(volumes).find("data") == made


def test_a_volume_that_was_put_there_with_its_record_is_as_it_was(volumes: Volumes, tmp_path: Path) -> None:
    made, _ = volumes.create("data", labels={"a": "b"})
    shutil.copytree(Path(_place(volumes), "data"), tmp_path / "saved")
    volumes.remove("data")
    shutil.copytree(tmp_path / "saved", Path(_place(volumes), "data"))

    assert volumes.create("data", labels={"c": "d"}) == (made, False)
    assert _again(volumes).find("data") == made


def test_a_damaged_record_that_was_put_there_is_not_written_over(volumes: Volumes, precious: Path) -> None:
    record = precious.parents[1] / "volume.json"
    record.write_text("{")

    with pytest.raises(Conflict, match=r"^volume data: its record .* cannot be read"):
        volumes.create("data")

    assert (record.read_text(), precious.read_text()) == ("{", "x")


def test_what_cannot_be_noted_of_another_driver_s_volume_leaves_nothing(
    both: Volumes, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.create("theirs", {})
    _full(monkeypatch)

    for name in ("theirs", "new"):
        with pytest.raises(CnmError, match=f"^create {name}: .*: no space left on device$"):
            both.create(name, "remote")

    assert os.listdir(_place(both)) == []
    assert list(remote.volumes) == ["theirs"]


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


def test_that_a_plugin_is_to_be_told_survives_a_power_cut(
    both: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is on the disk when each folder above it is."""
    both.create("theirs", "remote")
    flushed: list[str] = []
    monkeypatch.setattr("cnm.launcher.volumes.users.flush", flushed.append)

    both.mount("theirs", "c1")
    both.mount("theirs", "c2")

    folder = f"{_place(both)}/theirs"
    assert flushed == [f"{folder}/users", folder, _place(both), f"{folder}/users"]


def test_options_are_those_of_the_record(volumes: Volumes) -> None:
    """There is no other file that could be damaged, or say something else."""
    options = {"type": "none", "device": "/nosuch", "o": "bind"}
    volumes.create("bound", options=options)
    assert sorted(os.listdir(Path(_place(volumes), "bound"))) == ["_data", "volume.json"]

    again = _again(volumes)

    assert again.find("bound").options == options
    with pytest.raises(CnmError, match="mount /nosuch"):
        again.mount("bound", "c1")
    again.remove("bound")


def test_who_does_not_run_is_swept(volumes: Volumes) -> None:
    volumes.create("data")
    for user in ("c1", "c2"):
        volumes.mount("data", user)

    volumes.sweep({"c2"})

    assert volumes.mounted_by("data") == ["c2"]


# Drivers


class Remote:
    """A driver whose volumes are elsewhere, or at `place`; `failure` is what every change of a mount raises."""

    name, scope = "remote", Scope.GLOBAL

    def __init__(self) -> None:
        self.volumes: dict[str, set[str]] = {}
        self.failure: CnmError | None = None
        self.place = ""

    def create(self, name: str, options: Mapping[str, str]) -> None:
        self.volumes.setdefault(name, set())

    def remove(self, name: str, *, force: bool = False) -> None:
        self._fail()
        self.volumes.pop(name, None)

    def mount(self, name: str, user: str) -> str:
        self._fail()
        self.volumes[name].add(user)
        return self.place or f"/remote/{name}"

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
    return Volumes(_place(volumes), EventBus(), OnlyRemote(remote))


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
    assert both.all().statuses == {"theirs": {"Error": "away"}}
    with pytest.raises(Unavailable):
        both.remove("theirs")

    remote.failure = None
    both.sweep(set())

    assert remote.volumes == {"theirs": set()}
    both.remove("theirs")
    assert (remote.volumes, os.listdir(_place(both))) == ({}, [])


def test_volumes_of_a_driver_that_is_not_found_are_listed_with_a_warning(both: Volumes) -> None:
    both.create("theirs", "remote")

    listed = _again(both).all()

    assert [each.name for each in listed.volumes] == ["theirs"]
    assert listed.warnings == [
        "plugin remote is not there, or does not answer: its volumes are listed as they were made"
    ]


def test_a_volume_that_its_driver_has_lost_is_made_anew(both: Volumes, remote: Remote) -> None:
    """A kill came between the driver's removal and ours, or somebody has removed it there."""
    both.create("theirs", "remote", container="c1")
    remote.volumes.clear()
    assert both.create("theirs", "remote")[1] is False  # a container has it, and is to hear of it
    both.use.drop(["theirs"], "c1")

    assert both.create("theirs", "remote")[1] is True

    assert list(remote.volumes) == ["theirs"]


def test_a_volume_whose_driver_cannot_say_is_not_made_anew(both: Volumes, remote: Remote) -> None:
    both.create("theirs", "remote")
    remote.volumes.clear()
    remote.failure = Unavailable("away")

    assert both.create("theirs", "remote")[1] is False


def test_a_volume_whose_driver_is_gone_can_be_forgotten(both: Volumes, remote: Remote) -> None:
    both.create("theirs", "remote")
    remote.failure = Unavailable("away")

    both.remove("theirs", force=True)

    assert os.listdir(_place(both)) == []


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
    assert os.listdir(_place(volumes)) == []


@pytest.mark.parametrize("name", ["data/../data", "data/.", ".arriving-1", "../volumes/data", "x", ""])
def test_a_folder_that_is_called_as_no_volume_is_none(volumes: Volumes, name: str) -> None:
    for folder in ("data", ".arriving-1", "x"):
        Path(_place(volumes), folder, "_data").mkdir(parents=True)

    acts: list[Callable[[], object]] = [
        lambda: volumes.find(name),
        lambda: volumes.remove(name),
        lambda: volumes.mount(name, "c1"),
        lambda: volumes.hold(name, "it is on its way to host h2", lambda volume: None),
    ]
    for act in acts:
        with pytest.raises(NotFound, match=f"^get {name}: no such volume$"):
            act()


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


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


def _copied(image: Path, target: Path, note: Path) -> bool:
    source = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return copy_up(source, str(target), str(note))
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


def test_a_new_volume_takes_everything_that_the_image_has(image: Path, target: Path, note: Path) -> None:
    assert _copied(image, target, note)

    assert _look(target) == _look(image)
    assert (target / "file").samefile(target / "inner" / "same")
    assert not note.exists()


def test_a_volume_with_content_stays_as_it_is(image: Path, target: Path, note: Path) -> None:
    (target / "mine").write_text("x")
    before = _look(target)

    assert not _copied(image, target, note)

    assert _look(target) == before


def test_of_an_empty_directory_the_volume_takes_mode_and_owner(image: Path, target: Path, note: Path) -> None:
    for path in image.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    assert _copied(image, target, note)

    assert _look(target) == _look(image)


_STAGING = ".cnm-copy-up-0123456789abcdef"


def test_a_copy_that_was_cut_off_is_made_anew(image: Path, target: Path, note: Path) -> None:
    (target / _STAGING / "tree").mkdir(parents=True)
    (target / _STAGING / "tree" / "file").write_text("half")
    note.write_text(_STAGING)

    assert copying.is_interrupted(str(note))
    assert _copied(image, target, note)

    assert _look(target) == _look(image)
    assert not copying.is_interrupted(str(note))


def test_a_copy_that_was_whole_when_it_was_cut_off_is_finished(image: Path, target: Path, note: Path) -> None:
    (target / _STAGING).mkdir()
    shutil.copytree(image / "inner", target / _STAGING / "whole")
    (target / "same").write_text("somebody's own")
    note.write_text(_STAGING)

    copying.finish(str(target), str(note))

    assert [path.name for path in target.iterdir()] == ["same"]
    assert (target / "same").read_text() == "somebody's own"
    assert not note.exists()


@pytest.mark.parametrize("noted", ["", ".cnm-copy-up-", "../image", _STAGING])
def test_what_was_not_begun_is_forgotten(image: Path, target: Path, note: Path, noted: str) -> None:
    """The kill came before the folder, or before its name was written."""
    before = _look(image)
    note.write_text(noted)

    copying.finish(str(target), str(note))

    assert (list(target.iterdir()), note.exists(), _look(image)) == ([], False, before)


@pytest.mark.parametrize("name", [".cnm-copy-up", _STAGING])
def test_a_folder_that_is_called_like_a_copy_under_way_is_somebody_s(
    image: Path, target: Path, note: Path, name: str
) -> None:
    (target / name / "tree").mkdir(parents=True)
    before = _look(target)

    assert not _copied(image, target, note)
    copying.finish(str(target), str(note))

    assert _look(target) == before


def test_a_full_disk_leaves_nothing_half_copied(
    image: Path, target: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28), "/x")

    monkeypatch.setattr("cnm.launcher.volumes.copy_up._make", full)
    with pytest.raises(CnmError, match="no space left on device"):
        _copied(image, target, note)

    assert (list(target.iterdir()), note.exists()) == ([], False)


def test_of_two_that_fill_a_volume_at_once_one_does_and_the_other_waits(
    volumes: Volumes, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.create("data")
    copying_now, go_on = threading.Event(), threading.Event()
    make = copying._make

    def slow(*arguments: object) -> None:
        copying_now.set()
        assert go_on.wait(20)
        make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cnm.launcher.volumes.copy_up._make", slow)
    source = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    answers: dict[str, bool] = {}

    def fill(user: str) -> None:
        if volumes.may_be_empty("data"):
            answers[user] = volumes.fill("data", user, source)

    first, second, third = (
        threading.Thread(target=fill, args=("c1",)),
        threading.Thread(target=fill, args=("c2",)),
        threading.Thread(target=lambda: answers.update(third=volumes.may_be_empty("data"))),
    )
    first.start()
    assert copying_now.wait(20)
    for thread in (second, third):
        thread.start()
    second.join(0.2)
    assert (second.is_alive(), third.is_alive(), answers) == (True, True, {})
    go_on.set()
    for thread in (first, second, third):
        thread.join(20)
    os.close(source)

    assert answers == {"c1": True, "third": False}
    assert _look(Path(volumes.path(volumes.find("data")))) == _look(image)
    assert sorted(os.listdir(Path(_place(volumes), "data"))) == ["_data", "users", "volume.json"]


def test_what_a_kill_left_of_a_copy_is_finished_at_the_next_mount(
    both: Volumes, remote: Remote, target: Path
) -> None:
    """Where a volume's content is not there before."""
    both.create("theirs", "remote")
    Path(_place(both), "theirs", "copying-up").write_text(_STAGING)
    (target / _STAGING / "whole").mkdir(parents=True)
    (target / _STAGING / "whole" / "file").write_text("x")
    remote.place = str(target)

    both.mount("theirs", "c1")

    assert os.listdir(target) == ["file"]
