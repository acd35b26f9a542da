"""Mounts as they are asked for, and as the runtime gets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.mount_points import (
    Kind,
    MountPoint,
    inherited_points,
    mount_points,
    parse_bind,
    parse_mount,
    parse_volumes_from,
)
from cnm.launcher.mounts import Bind, network_files, resolve
from cnm.launcher.tmpfs import tmpfs_options
from cnm.wire.containers import BindOptions, Config, HostConfig, Mount, TmpfsOptions
from tests.support.launcher_hosts import a_host


def _volume(point: MountPoint) -> str:
    return f"/volumes/{point.name or 'anonymous'}"


def test_a_bind_is_told_by_its_absolute_source() -> None:
    bind, volume, anonymous = map(parse_bind, ("/host/../a:/b/:ro,rslave", "name:/c", "/d"))

    assert (bind.kind, bind.source, bind.destination) == (Kind.BIND, "/a", "/b")
    assert (bind.writable, bind.propagation, bind.create_source) == (False, "rslave", True)
    assert (volume.kind, volume.name, volume.propagation) == (Kind.VOLUME, "name", "")
    assert (anonymous.kind, anonymous.name, anonymous.destination) == (Kind.VOLUME, "", "/d")


def test_what_is_asked_for_replaces_what_is_inherited_and_the_image_s() -> None:
    config = Config(volumes={"/image": {}, "/asked": {}, "/inherited": {}})
    asked = HostConfig(binds=["/host:/asked"])
    inherited = [parse_bind("a:/inherited"), parse_bind("b:/asked")]

    found = {point.destination: point.kind for point in mount_points(config, asked, inherited)}

    assert found == {"/inherited": Kind.VOLUME, "/asked": Kind.BIND, "/image": Kind.VOLUME}


def test_nothing_is_mounted_twice_in_one_place() -> None:
    asked = HostConfig(binds=["/host:/a"], tmpfs={"/a/.": ""})

    with pytest.raises(InvalidParameter, match=r"^Duplicate mount point: /a$"):
        mount_points(Config(), asked)


def test_options_are_those_of_the_runtime(tmp_path: Path) -> None:
    points = [
        parse_bind(f"{tmp_path}:/a"),
        parse_bind(f"{tmp_path}:/b:ro"),
        parse_bind("name:/c"),
        parse_mount(
            Mount(
                type="bind",
                source=str(tmp_path),
                target="/d",
                read_only=True,
                bind_options=BindOptions(non_recursive=True, read_only_non_recursive=True),
            )
        ),
    ]

    found = resolve(points, _volume, a_host())

    assert found == (
        Bind(str(tmp_path), "/a", ("rbind", "rprivate")),
        Bind(str(tmp_path), "/b", ("rbind", "rro", "rprivate")),
        Bind("/volumes/name", "/c", ("rbind",)),
        Bind(str(tmp_path), "/d", ("bind", "ro", "rprivate")),
    )


def test_an_old_kernel_makes_only_the_top_read_only(tmp_path: Path) -> None:
    host = a_host(kernel=(5, 11))
    forced = Mount(
        type="bind",
        source=str(tmp_path),
        target="/d",
        read_only=True,
        bind_options=BindOptions(read_only_force_recursive=True),
    )

    assert resolve([parse_bind(f"{tmp_path}:/b:ro")], _volume, host)[0].options == ("rbind", "ro", "rprivate")
    with pytest.raises(InvalidParameter, match=r"need a kernel of 5\.12"):
        resolve([parse_mount(forced)], _volume, host)


def test_a_missing_source_is_made_for_v_and_refused_for_mount(tmp_path: Path) -> None:
    resolve([parse_bind(f"{tmp_path}/made/deep:/a")], _volume, a_host())

    assert (tmp_path / "made" / "deep").is_dir()
    with pytest.raises(InvalidParameter, match=f"bind source path does not exist: {tmp_path}/absent$"):
        resolve(
            [parse_mount(Mount(type="bind", source=f"{tmp_path}/absent", target="/a"))], _volume, a_host()
        )


def test_a_source_below_a_file_is_left_to_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    (bind,) = resolve([parse_bind(f"{tmp_path}/file/below:/a")], _volume, a_host())

    assert bind.source == f"{tmp_path}/file/below"


def test_a_source_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")

    with pytest.raises(
        InvalidParameter, match=f"error while creating mount source path '{tmp_path}/link/below'"
    ):
        resolve([parse_bind(f"{tmp_path}/link/below:/a")], _volume, a_host())


def test_a_file_is_bound_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    resolve([parse_bind(f"{tmp_path}/file:/a")], _volume, a_host())

    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("", ("noexec", "nosuid", "nodev", "rprivate")),
        ("exec,size=1m", ("nosuid", "nodev", "rprivate", "exec", "size=1m")),
        ("size=1m,defaults,size=2m,ro,rw", ("noexec", "nosuid", "nodev", "rprivate", "size=2m", "rw")),
    ],
)
def test_the_last_tmpfs_option_of_a_kind_holds(data: str, options: tuple[str, ...]) -> None:
    assert tmpfs_options(data) == options


@pytest.mark.parametrize(
    ("size", "written"), [(3 << 30, "size=3g"), (5 << 20, "size=5m"), (1 << 10, "size=1k"), (100, "size=100")]
)
def test_a_tmpfs_mount_has_its_size_in_the_largest_unit(size: int, written: str) -> None:
    mount = Mount(type="tmpfs", target="/a", tmpfs_options=TmpfsOptions(size_bytes=size, mode=0o1770))

    assert parse_mount(mount).data == f"mode=1770,{written}"


def test_files_of_the_sandbox_give_way_to_the_user_s() -> None:
    files = {"/etc/hosts": "/run/hosts", "/etc/hostname": "/run/hostname"}
    points = [parse_bind("/own:/etc/hosts")]

    assert network_files(files, points, read_only=False) == (
        Bind("/run/hostname", "/etc/hostname", ("rbind", "rprivate")),
    )
    assert network_files({"/a": "/b"}, (), read_only=True)[0].options == ("rbind", "ro", "rprivate")


def test_mounts_of_another_container_are_taken_without_its_tmpfs() -> None:
    points = (parse_bind("a:/a"), parse_bind("/b:/b:ro"), parse_mount(Mount(type="tmpfs", target="/c")))
    container, writable = parse_volumes_from("other:ro")

    found = inherited_points(points, writable=writable)

    assert container == "other"
    assert [(point.destination, point.writable) for point in found] == [("/a", False), ("/b", False)]
    assert parse_volumes_from("other") == ("other", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "volumes-from specification cannot be an empty string"),
        ("x:rshared", "invalid mode: rshared"),
        ("x:nocopy", "invalid mode: nocopy"),
        ("x:weird", "invalid mode: weird"),
    ],
)
def test_a_wrong_volumes_from_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{words}$"):
        parse_volumes_from(text)
