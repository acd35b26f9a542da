"""Volumes with restore points: what they keep, what they refuse, and what a kill or a bad archive leaves."""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound, Unavailable
from cnm.plugin.snapshots import backups, main, programs, record
from cnm.plugin.snapshots.driver import Driver
from cnm.plugin.snapshots.locks import locked
from cnm.plugin.snapshots.points import RestorePoints, parse_source
from cnm.plugin.snapshots.volumes import Volumes
from cnm.wire import volume_plugin as wire


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def volumes(root: Path) -> Volumes:
    return Volumes(str(root), patience=0.1)


@pytest.fixture
def points(volumes: Volumes) -> RestorePoints:
    return RestorePoints(volumes)


@pytest.fixture
def data(volumes: Volumes) -> Path:
    """The content of a volume v, in which the file `f` says "old"."""
    volumes.create("v")
    folder = Path(volumes.get("v").data)
    (folder / "f").write_text("old")
    return folder


def nothing_is_staged(root: Path) -> bool:
    return not list((root / "staging").iterdir())


# Volumes


def test_a_second_creation_changes_nothing(volumes: Volumes, data: Path) -> None:
    assert not volumes.create("v")

    assert (data / "f").read_text() == "old"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x", "a b", "x" * 300, "a\n"])
def test_a_name_that_would_be_a_path_is_refused(volumes: Volumes, name: str) -> None:
    for act in (volumes.create, volumes.get, volumes.remove):
        with pytest.raises(InvalidParameter, match="invalid volume name"):
            act(name)


def test_an_unknown_volume_is_named(volumes: Volumes) -> None:
    for act in (volumes.get, volumes.remove, lambda name: volumes.mount(name, "c")):
        with pytest.raises(NotFound, match=r"^no such volume: nope$"):
            act("nope")


def test_a_removed_volume_is_gone_with_its_content(volumes: Volumes, data: Path, root: Path) -> None:
    volumes.remove("v")

    assert volumes.all() == []
    assert not data.exists()
    assert nothing_is_staged(root)


def test_a_mounted_volume_is_not_removed(volumes: Volumes, data: Path) -> None:
    volumes.mount("v", "c1")

    with pytest.raises(Conflict, match=r"^volume v is in use - \[c1\]: stop the containers first"):
        volumes.remove("v")

    assert (data / "f").exists()


def test_a_volume_with_restore_points_is_not_removed(
    volumes: Volumes, data: Path, points: RestorePoints
) -> None:
    points.create("v", "monday")

    with pytest.raises(Conflict, match=r"restore points \(monday\): delete them first"):
        volumes.remove("v")

    points.delete("v", ["monday"])
    volumes.remove("v")
    assert volumes.all() == []


@pytest.mark.parametrize("text", ["{", "", None])
def test_a_volume_whose_record_is_damaged_or_gone_is_shown(
    root: Path, volumes: Volumes, data: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(data, text)

    (found,) = volumes.all()
    assert (found.name, found.data, str(root / "volumes/v") in found.fault) == ("v", str(data), True)
    told = Driver(volumes).get(wire.VolumeRef(name="v")).volume
    assert told is not None
    assert told.status == {"RestorePoints": [], "Users": [], "Error": found.fault}
    assert main.main(["--root", str(root), "ls"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].startswith("v ")
    assert f"volume v: {found.fault}" in shown.err
    with pytest.raises(CnmError):
        volumes.mount("v", "c1")
    assert (data / "f").read_text() == "old"


@pytest.mark.parametrize("text", ["{", None])
def test_a_volume_whose_record_is_damaged_or_gone_is_removed_by_force_alone(
    root: Path, volumes: Volumes, data: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(data, text)
    for act in (
        lambda: volumes.remove("v"),
        lambda: Driver(volumes).remove(wire.RemoveVolume(name="v")),
    ):
        with pytest.raises(
            Conflict, match=r"^volume v: .* or remove the volume with cnm-volume-snapshots rm --force v$"
        ):
            act()
    assert main.main(["--root", str(root), "rm", "v"]) == 1
    assert (data / "f").read_text() == "old"

    Driver(volumes).remove(wire.RemoveVolume(name="v", force=True))

    assert (volumes.all(), os.listdir(root / "volumes"), nothing_is_staged(root)) == ([], [], True)
    with pytest.raises(NotFound, match=r"^no such volume: v$"):
        volumes.remove("v", force=True)


def test_restore_points_of_a_damaged_volume_go_when_they_are_asked_to(
    root: Path, volumes: Volumes, data: Path, points: RestorePoints, capsys: pytest.CaptureFixture[str]
) -> None:
    points.create("v", "p")
    _damage(data)
    with pytest.raises(Conflict, match=r"has restore points \(p\): delete them first"):
        volumes.remove("v", force=True)

    assert main.main(["--root", str(root), "point", "rm", "v", "p"]) == 0
    assert main.main(["--root", str(root), "rm", "-f", "v"]) == 0

    assert capsys.readouterr().out == "p\nv\n"
    assert os.listdir(root / "volumes") == []


def test_a_damaged_volume_that_is_mounted_is_not_removed(
    volumes: Volumes, data: Path, tmp_path: Path
) -> None:
    """Its record cannot say who has it."""
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo make test")
    inside = tmp_path / "inside"
    inside.mkdir()
    volumes.mount("v", "c1")
    subprocess.run(["mount", "--bind", data, inside], check=True)
    _damage(data)
    with pytest.raises(Conflict, match=r"^volume v is mounted: stop the containers first$"):
        volumes.remove("v", force=True)
    assert (data / "f").read_text() == "old"

    subprocess.run(["umount", inside], check=True)

    volumes.remove("v", force=True)
    assert not data.exists()


def test_force_takes_no_volume_that_is_as_it_should_be(
    volumes: Volumes, data: Path, points: RestorePoints
) -> None:
    volumes.mount("v", "c1")
    with pytest.raises(Conflict, match=r"in use - \[c1\]"):
        volumes.remove("v", force=True)
    volumes.unmount("v", "c1")
    points.create("v", "p")
    with pytest.raises(Conflict, match="has restore points"):
        volumes.remove("v", force=True)


def test_a_backup_is_not_put_into_a_damaged_volume(
    volumes: Volumes, data: Path, points: RestorePoints, tmp_path: Path
) -> None:
    archive = str(tmp_path / "b.tar")
    backups.backup(points, parse_source("v"), archive)
    _damage(data, None)
    (data / "f").write_text("new")

    for act in (lambda: backups.restore(volumes, "v", archive), lambda: points.create("v", "p")):
        with pytest.raises(Conflict, match=r"^volume v: .*/v has no record: "):
            act()

    assert (data / "f").read_text() == "new"


def _damage(data: Path, text: str | None = "{") -> None:
    """The record of the volume; None: it is gone."""
    record_file = data.parent / "record.json"
    record_file.unlink() if text is None else record_file.write_text(text)


def test_what_is_no_volume_s_is_left_alone(root: Path, volumes: Volumes) -> None:
    (root / "volumes/lost+found").mkdir()

    volumes.recover()

    assert volumes.all() == []
    assert (root / "volumes/lost+found").is_dir()


# Mounts


def test_mounts_of_one_user_are_counted(volumes: Volumes, data: Path) -> None:
    """dockerd mounts a second time with the same id for `docker cp` from a running container."""
    volumes.mount("v", "c1")
    volumes.mount("v", "c1")

    volumes.unmount("v", "c1")

    assert volumes.get("v").record.users == ("c1",)
    volumes.unmount("v", "c1")
    assert volumes.get("v").record.users == ()


def test_an_unmount_without_a_mount_takes_nobody_elses(volumes: Volumes, data: Path) -> None:
    volumes.mount("v", "c1")

    volumes.unmount("v", "c2")
    volumes.unmount("v", "c2")

    assert volumes.get("v").record.users == ("c1",)


def test_mounts_outlive_the_process(root: Path, volumes: Volumes, data: Path) -> None:
    volumes.mount("v", "c1")

    after = Volumes(str(root))
    after.recover()

    assert after.get("v").record.users == ("c1",)


def test_mounts_do_not_outlive_the_machine(
    volumes: Volumes, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.mount("v", "c1")
    monkeypatch.setattr(record, "this_boot", lambda: "another")

    assert volumes.get("v").record.users == ()
    volumes.mount("v", "c2")
    assert volumes.get("v").record.users == ("c2",)


def test_a_user_who_is_gone_is_forgotten_by_hand(volumes: Volumes, data: Path) -> None:
    volumes.mount("v", "c1")
    volumes.mount("v", "c1")

    volumes.forget("v", "c1")

    assert volumes.get("v").record.users == ()
    with pytest.raises(NotFound, match="volume v is not mounted by c1"):
        volumes.forget("v", "c1")


def test_doubted_users_count_while_the_kernel_shows_the_mount(
    volumes: Volumes, data: Path, tmp_path: Path
) -> None:
    """As of a dockerd that was killed, and of one whose containers live on."""
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo make test")
    inside = tmp_path / "inside"
    inside.mkdir()
    volumes.mount("v", "c1")
    subprocess.run(["mount", "--bind", data, inside], check=True)
    volumes.doubt_users()
    assert volumes.get("v").record.users == ("c1",)
    with pytest.raises(Conflict):
        volumes.remove("v")

    subprocess.run(["umount", inside], check=True)

    assert volumes.get("v").record.users == ()
    volumes.mount("v", "c1")
    assert volumes.get("v").record.users == ("c1",)
    volumes.unmount("v", "c1")
    volumes.remove("v")


def test_mounts_at_the_same_time_are_all_counted(volumes: Volumes, data: Path, root: Path) -> None:
    patient = Volumes(str(root))
    threads = [threading.Thread(target=patient.mount, args=("v", f"c{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(volumes.get("v").record.users) == 16


# Restore points


def test_a_restored_volume_is_what_it_was(
    volumes: Volumes, data: Path, points: RestorePoints, root: Path
) -> None:
    (data / "dir").mkdir(mode=0o750)
    os.link(data / "f", data / "dir" / "hard")
    (data / "soft").symlink_to("dir/hard")
    os.setxattr(data / "f", "user.note", b"kept")
    os.utime(data / "f", ns=(10**18, 10**18))
    points.create("v", "before")
    (data / "f").write_text("new")
    (data / "added").write_text("x")
    (data / "soft").unlink()

    points.restore("v", "before")

    assert sorted(os.listdir(data)) == ["dir", "f", "soft"]
    assert (data / "soft").read_text() == "old"
    assert os.stat(data / "f").st_mtime_ns == 10**18
    assert os.stat(data / "dir").st_mode & 0o777 == 0o750
    assert os.path.samefile(data / "f", data / "dir" / "hard")
    assert os.getxattr(data / "f", "user.note") == b"kept"
    assert [point.name for point in points.all("v")] == ["before"]
    assert nothing_is_staged(root)


def test_writing_on_does_not_change_a_restore_point(data: Path, points: RestorePoints) -> None:
    points.create("v", "p")
    with open(data / "f", "r+") as file:
        file.write("NEW")

    points.restore("v", "p")

    assert (data / "f").read_text() == "old"


def test_restore_points_are_listed_as_they_were_made(data: Path, points: RestorePoints) -> None:
    for name in ("b", "c", "a"):
        points.create("v", name)

    found = points.all("v")

    assert [point.name for point in found] == ["b", "c", "a"]
    assert all(point.record.size > 0 for point in found)


def test_a_name_that_is_taken_is_refused(data: Path, points: RestorePoints) -> None:
    points.create("v", "p")
    (data / "f").write_text("new")

    with pytest.raises(Conflict, match="volume v has a restore point p already"):
        points.create("v", "p")

    points.restore("v", "p")
    assert (data / "f").read_text() == "old"


def test_deleting_points_is_all_or_nothing(data: Path, points: RestorePoints) -> None:
    points.create("v", "a")
    points.create("v", "b")

    with pytest.raises(NotFound, match="volume v has no restore point c: it has a, b"):
        points.delete("v", ["a", "c"])

    assert [point.name for point in points.all("v")] == ["a", "b"]
    points.delete("v", ["a", "b", "a"])
    assert points.all("v") == []


def test_a_mounted_volume_is_not_restored(volumes: Volumes, data: Path, points: RestorePoints) -> None:
    points.create("v", "p")
    volumes.mount("v", "c1")
    (data / "f").write_text("new")

    with pytest.raises(Conflict, match=r"in use - \[c1\]"):
        points.restore("v", "p")

    assert (data / "f").read_text() == "new"


def test_a_mounted_volume_is_copied_only_when_that_is_asked_for(
    volumes: Volumes, data: Path, points: RestorePoints
) -> None:
    volumes.mount("v", "c1")

    with pytest.raises(Conflict, match=r"in use - \[c1\]: stop the containers first, or say --live"):
        points.create("v", "p")

    points.create("v", "p", live=True)
    assert [point.name for point in points.all("v")] == ["p"]


def test_a_volume_begins_as_a_copy_of_another(volumes: Volumes, data: Path, points: RestorePoints) -> None:
    points.create("v", "p")
    (data / "f").write_text("new")

    volumes.create("now", points.copied_from(parse_source("v")))
    volumes.create("then", points.copied_from(parse_source("v@p")))

    assert Path(volumes.get("now").data, "f").read_text() == "new"
    assert Path(volumes.get("then").data, "f").read_text() == "old"


def test_a_copy_of_nothing_makes_no_volume(volumes: Volumes, points: RestorePoints, root: Path) -> None:
    with pytest.raises(NotFound, match="no such volume: nope"):
        volumes.create("w", points.copied_from(parse_source("nope")))

    assert volumes.all() == []
    assert nothing_is_staged(root)


# Locks


def test_a_volume_that_is_being_copied_is_not_mounted(volumes: Volumes, data: Path) -> None:
    with volumes.replacing("v"), pytest.raises(Unavailable, match=r"^volume v is being copied: try again"):
        volumes.mount("v", "c1")


def test_a_copy_of_a_running_volume_holds_up_no_mount(
    volumes: Volumes, data: Path, points: RestorePoints
) -> None:
    with points.content(parse_source("v"), live=True):
        assert volumes.mount("v", "c1") == str(data)
        volumes.unmount("v", "c1")
        with pytest.raises(Unavailable):
            volumes.remove("v")


def test_a_volume_that_is_removed_meanwhile_is_not_there(volumes: Volumes, data: Path, root: Path) -> None:
    waiting = Volumes(str(root))
    failures: list[CnmError] = []

    def mount() -> None:
        with Keeping(failures):
            waiting.mount("v", "c1")

    with volumes.replacing("v") as volume:
        thread = threading.Thread(target=mount)
        thread.start()
        os.rename(volume.folder, root / "gone")
    thread.join()

    assert [str(failure) for failure in failures] == ["no such volume: v"]


class Keeping:
    """Keeps the error that ends the block."""

    def __init__(self, kept: list[CnmError]) -> None:
        self._kept = kept

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, CnmError):
            self._kept.append(error)
        return isinstance(error, CnmError)


# Kills


def test_what_a_kill_left_half_made_goes_at_the_next_start(root: Path, volumes: Volumes) -> None:
    (root / "staging" / "dead" / "volume" / "data").mkdir(parents=True)
    alive = root / "staging" / "alive"
    alive.mkdir()

    with locked(str(alive), "alive"):
        volumes.recover()

    assert [path.name for path in (root / "staging").iterdir()] == ["alive"]


@pytest.mark.parametrize("reader", ["recover", "mount", "restore"])
def test_a_kill_before_the_new_content_is_there_leaves_the_old(
    volumes: Volumes, data: Path, points: RestorePoints, reader: str
) -> None:
    points.create("v", "p")
    (data / "f").write_text("now")
    data.rename(data.parent / "replaced")

    if reader == "restore":
        points.restore("v", "p")
    elif reader == "mount":
        volumes.mount("v", "c1")
    else:
        volumes.recover()

    assert (data / "f").read_text() == ("old" if reader == "restore" else "now")
    assert not (data.parent / "replaced").exists()


def test_a_kill_after_the_new_content_is_there_leaves_the_new(
    volumes: Volumes, data: Path, root: Path
) -> None:
    (data.parent / "replaced").mkdir()
    (data.parent / "replaced" / "f").write_text("before")

    volumes.recover()

    assert (data / "f").read_text() == "old"
    assert not (data.parent / "replaced").exists()
    assert nothing_is_staged(root)


def test_a_torn_record_hides_no_other_volume(volumes: Volumes, data: Path) -> None:
    volumes.create("w")
    Path(volumes.get("w").folder, "record.json").write_text('{"created": "2')

    assert [(volume.name, bool(volume.fault)) for volume in volumes.all()] == [("v", False), ("w", True)]
    with pytest.raises(CnmError, match=r"record\.json cannot be read"):
        volumes.get("w")


# Backups


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz"])
def test_a_backup_brings_everything_back(
    volumes: Volumes, data: Path, points: RestorePoints, tmp_path: Path, name: str
) -> None:
    (data / "soft").symlink_to("f")
    os.setxattr(data / "f", "user.note", b"kept")
    os.chmod(data, 0o1777)
    archive = tmp_path / name
    backups.backup(points, parse_source("v"), str(archive))
    (data / "f").write_text("new")
    (data / "added").write_text("x")

    backups.restore(volumes, "v", str(archive))
    backups.restore(volumes, "w", str(archive))

    for folder in (data, Path(volumes.get("w").data)):
        assert sorted(os.listdir(folder)) == ["f", "soft"]
        assert (folder / "soft").read_text() == "old"
        assert os.getxattr(folder / "f", "user.note") == b"kept"
        assert os.stat(folder).st_mode & 0o7777 == 0o1777
    assert (archive.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_a_backup_of_a_point_is_what_the_point_has(
    volumes: Volumes, data: Path, points: RestorePoints, tmp_path: Path
) -> None:
    points.create("v", "p")
    (data / "f").write_text("new")
    volumes.mount("v", "c1")

    backups.backup(points, parse_source("v@p"), str(tmp_path / "b.tar"))

    with tarfile.open(tmp_path / "b.tar") as tar:
        member = tar.extractfile("./f")
        assert member is not None
        assert member.read() == b"old"


def broken(archive: Path, how: str) -> None:
    content = archive.read_bytes()
    if how == "truncated":
        archive.write_bytes(content[: len(content) // 2])
    elif how == "garbled":
        archive.write_bytes(content[:100] + b"x" * 40 + content[140:])
    else:
        archive.write_bytes(b"this is no archive\n" * 100)


@pytest.mark.parametrize("how", ["truncated", "garbled", "no archive"])
@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz"])
def test_a_broken_archive_changes_nothing(
    volumes: Volumes, data: Path, points: RestorePoints, tmp_path: Path, root: Path, name: str, how: str
) -> None:
    (data / "much").write_bytes(os.urandom(200_000))
    archive = tmp_path / name
    backups.backup(points, parse_source("v"), str(archive))
    (data / "f").write_text("now")
    broken(archive, how)

    for volume in ("v", "w"):
        with pytest.raises(CnmError, match=rf"^backup {archive}: "):
            backups.restore(volumes, volume, str(archive))

    assert (data / "f").read_text() == "now"
    assert [volume.name for volume in volumes.all()] == ["v"]
    assert nothing_is_staged(root)


def test_an_archive_that_is_not_there_is_named(volumes: Volumes, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=rf"^backup {tmp_path}/none\.tar is no file"):
        backups.restore(volumes, "v", str(tmp_path / "none.tar"))


def test_an_archive_cannot_leave_the_volume(volumes: Volumes, tmp_path: Path, root: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("way/in"))
        tar.addfile(tarfile.TarInfo("../../../../up"))

    with suppress(CnmError):
        backups.restore(volumes, "v", str(archive))

    assert list(outside.iterdir()) == []
    assert not [path for path in tmp_path.rglob("up") if "data" not in path.parts]


def test_a_backup_that_cannot_be_written_leaves_nothing(
    volumes: Volumes, data: Path, points: RestorePoints, tmp_path: Path
) -> None:
    (tmp_path / "folder" / "b.tar").mkdir(parents=True)

    for path in (tmp_path / "folder" / "b.tar", tmp_path / "nowhere" / "b.tar"):
        with pytest.raises(CnmError, match=r"^backup of v"):
            backups.backup(points, parse_source("v"), str(path))

    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["b.tar"]


# The command line


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("point", "restore", "v", "p"), 1, "cnm-volume-snapshots: no such volume: v\n"),
        (("create", "a/b"), 1, "cnm-volume-snapshots: invalid volume name 'a/b': "),
        (("create", "w", "--from", "v@p@q"), 2, "invalid restore point name 'p@q'"),
        (("create", "w", "--from", "@p"), 2, "invalid volume name ''"),
        (("point",), 2, "the following arguments are required: COMMAND"),
        (("point", "rm", "v"), 2, "the following arguments are required: POINT"),
    ],
)
def test_a_mistake_is_told(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo make test")
    try:
        ended = main.main(["--root", str(root), *arguments])
    except SystemExit as error:
        ended = int(error.code or 0)

    assert ended == code
    assert said in capsys.readouterr().err


# Programs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A root on a file system of 1 MiB, in the test's own mount namespace."""
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo make test")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_changes_nothing(small_disk: Path) -> None:
    volumes = Volumes(str(small_disk))
    points = RestorePoints(volumes)
    volumes.create("v")
    data = Path(volumes.get("v").data)
    (data / "f").write_bytes(bytes(range(256)) * 2400)

    for act in (
        lambda: points.create("v", "p"),
        lambda: volumes.create("w", points.copied_from(parse_source("v"))),
    ):
        with pytest.raises(CnmError, match=r"^volume v: .*No space left on device"):
            act()

    assert [volume.name for volume in volumes.all()] == ["v"]
    assert points.all("v") == []
    assert nothing_is_staged(small_disk)
    (data / "f").write_bytes(b"small")
    points.create("v", "p")


def test_sizes_count_a_file_with_two_names_once(data: Path) -> None:
    (data / "f").write_bytes(bytes(100_000))
    before = programs.size_of(str(data))

    os.link(data / "f", data / "again")

    assert programs.size_of(str(data)) == before > 100_000
