"""Volumes of containers with the unmodified docker CLI: named, anonymous, from others, with options."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.kernel.processes import has_ended
from tests.docker.test_cli_containers import Cli
from tests.support.cnmd import UnixConnection
from tests.support.launcher import IMAGE, Launcher
from tests.support.power_cut import cut_power, switched_on
from tests.support.thorough import THOROUGH
from tests.support.unpacked import environment

docker_py = pytest.importorskip("docker")

_FILLED = "filled"
"""An image with files at /data, a volume at /made, and an empty directory at /empty with an owner of its own."""
_MANY = 300
"""Files in its /many."""
_SLEEP = ("sleep", "1000")


@pytest.fixture(scope="module")
def images(launcher: Launcher) -> Launcher:
    script = (
        f"mkdir -p /data/sub /made /empty /many; cd /many; for n in $(seq {_MANY}); do echo $n >$n; done; cd /; "
        "echo one >/data/one; echo two >/data/sub/two; ln -s one /data/link; "
        "chown 7:8 /data /data/one; chmod 1777 /data; echo image >/made/file; chown 9:9 /empty; chmod 700 /empty"
    )
    launcher.docker("run", "--name", "maker", IMAGE, "sh", "-c", script)
    launcher.docker("commit", "--change", "VOLUME /made", "maker", _FILLED)
    launcher.docker("rm", "maker")
    return launcher


@pytest.fixture
def docker(images: Launcher) -> Iterator[Launcher]:
    """Without containers and volumes before and after."""
    yield images
    images.clear()
    if names := _names(images):
        images.docker("volume", "rm", *names)
    assert os.listdir(images.place / "root/launcher/volumes") == []


def _names(docker: Launcher, *flags: str) -> list[str]:
    return docker.docker("volume", "ls", "-q", *flags).split()


def _sh(docker: Launcher, *arguments: str) -> str:
    """`docker run --rm FLAGS… -- IMAGE SCRIPT`: the last two arguments."""
    *flags, image, script = arguments
    return docker.docker("run", "--rm", *flags, image, "sh", "-c", script)


def _inspected(docker: Launcher, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.docker("volume", "inspect", name))[0]
    return found


def _mounted(launcher: Launcher) -> list[str]:
    """Mounts below the folder of volumes, in the namespace that the launcher is in."""
    place = f"{launcher.place}/root/launcher/volumes/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(place)]


# Named


def test_what_one_container_writes_the_next_reads(docker: Launcher) -> None:
    _sh(docker, "-v", "data:/d", IMAGE, "echo kept >/d/file")

    assert _sh(docker, "-v", "data:/d", IMAGE, "cat /d/file") == "kept"
    assert _names(docker) == ["data"]


def test_a_volume_can_be_read_only(docker: Launcher) -> None:
    docker.docker("volume", "create", "data")
    for flags in (("-v", "data:/d:ro"), ("--mount", "type=volume,src=data,dst=/d,readonly")):
        assert "Read-only file system" in docker.fails("run", "--rm", *flags, IMAGE, "touch", "/d/x")[1]


def test_a_new_volume_has_what_the_image_has_there(docker: Launcher) -> None:
    look = "stat -c '%a %u %g %n' /data /data/one; cat /data/link /data/sub/two; ls -A /data"
    without = _sh(docker, _FILLED, look)

    assert _sh(docker, "-v", "data:/data", _FILLED, look) == without
    assert _sh(docker, "--mount", "type=volume,src=other,dst=/data", _FILLED, look) == without
    assert _sh(docker, "-v", "third:/empty", _FILLED, "stat -c '%a %u %g' /empty") == "700 9 9"


@pytest.mark.parametrize("number", range(20 if THOROUGH else 4))
def test_containers_that_are_made_at_once_share_a_new_volume(docker: Launcher, number: int) -> None:
    command = docker.command("create", "-v", "shared:/many", _FILLED)
    creations = [
        subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]

    failures = [said for each in creations if (said := each.communicate(timeout=60)[1])]

    assert failures == []
    assert len(docker.docker("ps", "-aq").split()) == 8
    content = docker.place / "root/launcher/volumes/shared/_data"
    assert sorted(os.listdir(content)) == sorted(str(each) for each in range(1, _MANY + 1))


def test_only_an_empty_volume_takes_what_the_image_has(docker: Launcher) -> None:
    _sh(docker, "-v", "data:/d", IMAGE, "touch /d/mine")

    assert _sh(docker, "-v", "data:/data", _FILLED, "ls -A /data") == "mine"


@pytest.mark.parametrize(
    "flags", [("-v", "data:/data:nocopy"), ("--mount", "type=volume,src=data,dst=/data,volume-nocopy")]
)
def test_nothing_is_copied_where_that_is_asked_for(docker: Launcher, flags: tuple[str, str]) -> None:
    assert _sh(docker, *flags, _FILLED, "ls -A /data") == ""


def test_a_volume_in_a_volume_is_seen(docker: Launcher) -> None:
    script = "echo in >/a/b/in; echo out >/a/out"
    _sh(docker, "-v", "inner:/a/b", "-v", "outer:/a", IMAGE, script)

    assert (
        _sh(docker, "-v", "inner:/i", "-v", "outer:/o", IMAGE, "cat /i/in /o/out; ls /o") == "in\nout\nb\nout"
    )


def test_inspect_of_a_container_names_its_volumes(docker: Launcher) -> None:
    docker.docker("create", "--name", "cc", "-v", "data:/d:ro", IMAGE)

    (mount,) = json.loads(docker.docker("inspect", "-f", "{{json .Mounts}}", "cc"))

    assert mount == {
        "Type": "volume",
        "Name": "data",
        "Source": f"{docker.place}/root/launcher/volumes/data/_data",
        "Destination": "/d",
        "Driver": "local",
        "Mode": "ro",
        "RW": False,
        "Propagation": "",
    }
    assert docker.docker("ps", "-aq", "--filter", "volume=data") == docker.docker("ps", "-aq")


# Anonymous


def test_rm_takes_anonymous_volumes_only_where_that_is_asked_for(docker: Launcher) -> None:
    docker.docker("create", "--name", "cc", "-v", "/x", "-v", "data:/d", _FILLED)
    docker.docker("create", "--name", "other", "-v", "/x", _FILLED)
    assert len(_names(docker)) == 5

    docker.docker("rm", "-v", "cc")
    assert len(_names(docker)) == 3
    docker.docker("rm", "other")

    assert len(_names(docker)) == 3
    assert len(_names(docker, "--filter", "dangling=true")) == 3


def test_a_container_that_removes_itself_takes_its_anonymous_volumes(docker: Launcher) -> None:
    assert _sh(docker, "-v", "/x", "-v", "data:/d", _FILLED, "cat /made/file; ls -d /x") == "image\n/x"

    assert _names(docker) == ["data"]


def test_an_anonymous_volume_that_somebody_else_has_stays(docker: Launcher) -> None:
    docker.docker("create", "--name", "cc", "-v", "/x", IMAGE)
    (name,) = _names(docker)
    docker.docker("create", "--name", "other", "--volumes-from", "cc", IMAGE)

    docker.docker("rm", "-v", "cc")
    assert _names(docker) == [name]
    docker.docker("rm", "-v", "other")

    assert _names(docker) == []


def test_a_container_that_cannot_be_made_leaves_no_volume(docker: Launcher) -> None:
    docker.fails("create", "--mount", "type=volume,dst=/y", "-v", "/x", "--volume-driver", "nosuch", _FILLED)
    docker.fails("create", "-v", "/x", "-v", "data:/bin/busybox", IMAGE)
    assert _names(docker) == ["data"]  # Docker keeps those with names
    assert docker.docker("ps", "-aq") == ""


# From other containers


def test_three_containers_share_the_volumes_of_a_data_container(docker: Launcher) -> None:
    docker.docker("create", "--name", "store", "-v", "/data", "-v", "named:/named", _FILLED)
    docker.docker("run", "-d", "--name", "writer", "--volumes-from", "store", IMAGE, *_SLEEP)
    docker.docker("run", "-d", "--name", "chained", "--volumes-from", "writer", IMAGE, *_SLEEP)
    docker.docker("run", "-d", "--name", "reader", "--volumes-from", "store:ro", IMAGE, *_SLEEP)

    docker.docker("exec", "writer", "sh", "-c", "echo new >/data/new; echo new >/named/new")

    for name in ("writer", "chained", "reader"):
        assert docker.docker("exec", name, "cat", "/data/one", "/data/new", "/named/new") == "one\nnew\nnew"
    assert "Read-only file system" in docker.fails("exec", "reader", "touch", "/data/x")[1]
    docker.docker("rm", "-f", "-v", "store", "writer", "reader")
    assert docker.docker("exec", "chained", "cat", "/data/new", "/made/file") == "new\nimage"
    docker.docker("rm", "-f", "-v", "chained")
    assert _names(docker) == ["named"]


def test_volumes_from_nobody_are_refused(docker: Launcher) -> None:
    assert docker.fails("create", "--volumes-from", "nosuch", IMAGE) == (
        1,
        "Error response from daemon: No such container: nosuch",
    )


# Options


def test_a_tmpfs_volume_is_mounted_while_somebody_has_it(docker: Launcher) -> None:
    docker.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "fast")
    assert _mounted(docker) == []
    docker.docker("run", "-d", "--name", "aa", "-v", "fast:/f", IMAGE, *_SLEEP)
    docker.docker("run", "-d", "--name", "bb", "-v", "fast:/f", IMAGE, *_SLEEP)

    docker.docker("exec", "aa", "sh", "-c", "echo x >/f/x")
    assert docker.docker("exec", "bb", "cat", "/f/x") == "x"
    assert docker.docker("exec", "bb", "stat", "-f", "-c", "%T", "/f") == "tmpfs"
    docker.docker("kill", "aa")
    assert len(_mounted(docker)) == 1
    docker.docker("kill", "bb")
    docker.docker("wait", "bb")

    assert _mounted(docker) == []


def test_a_bind_volume_is_a_directory_of_the_host(docker: Launcher, tmp_path: Path) -> None:
    tmp_path.joinpath("mine").write_text("mine")
    options = ("-o", "type=none", "-o", f"device={tmp_path}", "-o", "o=bind")
    docker.docker("volume", "create", *options, "bound")

    assert _sh(docker, "-v", "bound:/b", IMAGE, "cat /b/mine; touch /b/theirs") == "mine"
    docker.docker("volume", "rm", "bound")

    assert sorted(os.listdir(tmp_path)) == ["mine", "theirs"]


def test_what_options_bind_can_be_read_only_and_has_what_is_mounted_below(
    docker: Launcher, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
    try:
        (inner / "mine").write_text("mine")
        for name, option in (("bound", "bind,ro"), ("whole", "rbind")):
            options = ("-o", "type=none", "-o", f"device={tmp_path}", "-o", f"o={option}")
            docker.docker("volume", "create", *options, name)

        _, text = docker.fails("run", "--rm", "-v", "bound:/b", IMAGE, "touch", "/b/theirs")
        assert "Read-only file system" in text
        assert _sh(docker, "-v", "bound:/b", IMAGE, "ls /b /b/inner") == "/b:\ninner\n\n/b/inner:"
        assert _sh(docker, "-v", "whole:/b", IMAGE, "cat /b/inner/mine; touch /b/inner/theirs") == "mine"

        docker.docker("volume", "rm", "bound", "whole")
        assert sorted(os.listdir(inner)) == ["mine", "theirs"]
    finally:
        subprocess.run(["umount", inner], check=True)


def test_options_can_be_given_with_the_mount(docker: Launcher, tmp_path: Path) -> None:
    options = f"volume-opt=type=none,volume-opt=o=bind,volume-opt=device={tmp_path}"
    mount = f"type=volume,src=inline,dst=/b,volume-driver=local,{options},volume-label=a=b"

    _sh(docker, "--mount", mount, IMAGE, "touch /b/file")

    assert os.listdir(tmp_path) == ["file"]
    assert _inspected(docker, "inline")["Labels"] == {"a": "b"}


def test_a_device_that_is_absent_keeps_the_container_from_starting(docker: Launcher) -> None:
    docker.docker("volume", "create", "-o", "type=none", "-o", "device=/nosuch", "-o", "o=bind", "bound")
    docker.docker("create", "--name", "cc", "-v", "bound:/b:nocopy", IMAGE)

    text = docker.fails("start", "cc")[1]

    assert "error while mounting volume" in text
    assert "no such file or directory" in text
    assert docker.docker("inspect", "-f", "{{.State.Status}}", "cc") == "created"
    assert _inspected(docker, "bound")["Status"]["MountedBy"] == []


def test_what_this_kernel_cannot_mount_is_told_without_passwords(docker: Launcher) -> None:
    options = ("-o", "type=nosuchfs", "-o", "device=:/srv", "-o", "o=addr=127.0.0.1,password=secret")
    docker.docker("volume", "create", *options, "far")
    docker.docker("create", "--name", "user", "-v", "far:/f:nocopy", IMAGE)

    text = docker.fails("start", "user")[1]

    assert "no such device: the kernel has no file system nosuchfs" in text
    assert ("secret" in text, "password=********" in text) == (False, True)


# Shown and removed


def test_who_has_a_volume_is_shown_and_keeps_it(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--name", "user", "-v", "data:/d", IMAGE, *_SLEEP)

    status = _inspected(docker, "data")["Status"]
    assert (status["UsedBy"], status["MountedBy"], status["Size"]) == (["user"], ["user"], 0)
    assert status["LastUsedAt"]
    docker.docker("exec", "user", "sh", "-c", "head -c 3000 /dev/zero >/d/zeros")
    assert _inspected(docker, "data")["Status"]["Size"] == 3000
    for command in (("volume", "rm", "data"), ("volume", "rm", "-f", "data")):
        text = f"Error response from daemon: remove data: volume is in use - [{ident}]"
        assert docker.fails(*command) == (1, text)
    docker.docker("rm", "-f", "user")
    status = _inspected(docker, "data")["Status"]
    assert (status["UsedBy"], status["MountedBy"]) == ([], [])


def test_volumes_are_listed_by_what_they_are(docker: Launcher) -> None:
    docker.docker("volume", "create", "--label", "tier=db", "one")
    docker.docker("volume", "create", "two")
    docker.docker("create", "-v", "two:/x", IMAGE)

    assert _names(docker) == ["one", "two"]
    assert _names(docker, "--filter", "dangling=true") == ["one"]
    assert _names(docker, "--filter", "dangling=false") == ["two"]
    assert _names(docker, "--filter", "name=tw") == ["two"]
    assert _names(docker, "--filter", "label=tier=db") == ["one"]
    assert _names(docker, "--filter", "driver=nosuch") == []


def test_prune_takes_what_no_container_has(docker: Launcher) -> None:
    docker.docker("volume", "create", "--label", "keep", "kept")
    docker.docker("create", "--name", "cc", "-v", "used:/u", "-v", "/x", IMAGE)
    _sh(docker, "-v", "unused:/u", IMAGE, "head -c 3000 /dev/zero >/u/zeros")
    docker.docker("rm", "cc")
    docker.docker("create", "-v", "used:/u", IMAGE)

    pruned = docker.docker("volume", "prune", "-f", "--filter", "label!=keep")

    assert pruned.endswith("Total reclaimed space: 3kB")
    assert _names(docker) == ["kept", "used"]


def test_a_prune_goes_on_behind_a_volume_that_cannot_be_removed(docker: Launcher) -> None:
    for name in ("first", "second", "third"):
        _sh(docker, "-v", f"{name}:/d", IMAGE, "head -c 3000 /dev/zero >/d/zeros")
    place = docker.docker("volume", "inspect", "--format", "{{.Mountpoint}}", "second")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)

    try:
        pruned = docker.docker("volume", "prune", "-f")
        said = docker.fails("volume", "rm", "second")[1]
    finally:
        subprocess.run(["umount", place], check=True)

    assert pruned == "Deleted Volumes:\nfirst\nthird\n\nTotal reclaimed space: 6kB"
    assert said.endswith(f"remove second: {place} is a mount: unmount it first")
    assert docker.docker("run", "--rm", "-v", "second:/d", IMAGE, "ls", "/d") == "zeros"


def test_the_space_that_volumes_take_is_told(docker: Launcher) -> None:
    docker.docker("create", "-v", "used:/u", IMAGE)
    _sh(docker, "-v", "unused:/u", IMAGE, "head -c 3000 /dev/zero >/u/zeros")

    summed = [line.split() for line in docker.docker("system", "df").splitlines()]
    assert ["Local", "Volumes", "2", "1", "3kB", "3kB", "(100%)"] in summed
    shown = [line.split() for line in docker.docker("system", "df", "-v").splitlines()]
    assert ["unused", "0", "3kB"] in shown


def test_what_happens_to_volumes_is_told(docker: Launcher) -> None:
    since = docker.docker("info", "-f", "{{.SystemTime}}")
    _sh(docker, "-v", "data:/d", IMAGE, "true")
    docker.docker("volume", "rm", "data")

    flags = ("--since", since, "--until", str(time.time()), "--filter", "type=volume", "--format")
    told = docker.docker("events", *flags, "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.driver}}")

    assert told.splitlines() == [
        f"{action} data local" for action in ("create", "mount", "unmount", "destroy")
    ]


# Other clients


def test_a_client_of_today_prunes_volumes_with_names_only_where_all_are_asked_for(docker: Launcher) -> None:
    client = docker_py.DockerClient(base_url=f"unix://{docker.socket}", version="auto")
    named = client.volumes.create("named", labels={"a": "b"})
    anonymous = client.volumes.create()
    client.containers.create(IMAGE, name="user", volumes={"used": {"bind": "/u", "mode": "ro"}})

    unused = sorted(each.name for each in client.volumes.list(filters={"dangling": True}))
    assert (named.attrs["Labels"], unused) == ({"a": "b"}, sorted(["named", anonymous.name]))
    assert client.volumes.prune()["VolumesDeleted"] == [anonymous.name]
    assert client.volumes.prune(filters={"all": True})["VolumesDeleted"] == ["named"]
    with pytest.raises(docker_py.errors.APIError, match="volume is in use"):
        client.volumes.get("used").remove()
    client.close()


# cnmctl


def test_cnmctl_does_as_docker_does_and_shows_who_has_what(docker: Launcher) -> None:
    cnmctl = Cli(docker, docker.cnmd.socket)
    assert cnmctl.said("volume", "create", "--label", "a=b", "one") == (0, "one\n", "")
    docker.docker(
        "run", "--name", "user", "-v", "used:/u", IMAGE, "sh", "-c", "head -c 3000 /dev/zero >/u/zeros"
    )
    docker.docker("create", "--name", "other", "-v", "/x", "--volumes-from", "user", IMAGE)

    for command in (
        ("volume", "ls"),
        ("volume", "ls", "-q", "--filter", "label=a=b"),
        ("volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Labels}} {{.Mountpoint}} {{.Scope}}"),
        ("volume", "inspect", "--format", "{{.Name}} {{.Mountpoint}} {{.Labels}}", "one"),
        ("volume", "rm", "used"),
    ):
        theirs = docker.run(*command)
        assert cnmctl.said(*command) == (theirs.returncode, theirs.stdout, theirs.stderr), command
    form = ("--format", "{{.Name}} {{.UsedBy}} {{.Size}} {{.Reclaimable}}")
    assert "used other,user 3kB 0B\n" in cnmctl.said("volume", "df", *form)[1]
    docker.docker("run", "-d", "--name", "now", "-v", "used:/u", IMAGE, *_SLEEP)
    form = ("--format", "{{.Name}} {{.LastUsed}}")
    assert {"one never", "used now"} < set(cnmctl.said("volume", "df", *form)[1].splitlines())
    docker.docker("rm", "-f", "now")
    shown = next(
        line.split() for line in cnmctl.said("volume", "df")[1].splitlines() if line.startswith("used ")
    )
    last = _inspected(docker, "used")["Status"]["LastUsedAt"].partition(".")[0]
    assert shown == ["used", "local", "other,user", last, "3kB", "0B"]
    assert cnmctl.said("volume", "df")[1].endswith("\n3kB in 3 volumes, 0B of it reclaimable\n")

    docker.clear()
    anonymous = next(name for name in _names(docker) if name not in ("one", "used"))
    pruned = cnmctl.said("volume", "prune", "--force")
    assert pruned == (0, f"Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: 0B\n", "")
    assert "\n3kB in 2 volumes, 3kB of it reclaimable\n" in cnmctl.said("volume", "df")[1]
    assert "Total reclaimed space: 3kB" in cnmctl.said("volume", "prune", "--all", "--force")[1]
    assert _names(docker) == []


# Files


def test_files_are_copied_into_volumes_and_out_of_them(docker: Launcher, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("copied")
    docker.docker("create", "--name", "cc", "-v", "data:/d/deep", "-v", "data:/ro:ro", IMAGE)

    docker.docker("cp", str(tmp_path / "in"), "cc:/d/deep/file")
    docker.docker("cp", "cc:/ro/file", str(tmp_path / "out"))

    assert (tmp_path / "out").read_text() == "copied"
    assert _sh(docker, "-v", "data:/x", IMAGE, "cat /x/file") == "copied"
    assert "read-only" in docker.fails("cp", str(tmp_path / "in"), "cc:/ro/other")[1]
    exported = docker.place / "exported.tar"
    docker.docker("export", "-o", str(exported), "cc")
    with tarfile.open(exported) as archive:
        assert not [name for name in archive.getnames() if name.startswith(("d/deep/", "ro/"))]
    assert _inspected(docker, "data")["Status"]["MountedBy"] == []


# Faults


def test_a_volume_whose_record_is_damaged_is_seen_kept_and_removed_by_force(docker: Launcher) -> None:
    cnmctl = Cli(docker, docker.cnmd.socket)
    _sh(docker, "-v", "data:/d", IMAGE, "head -c 3000 /dev/zero >/d/zeros")
    record = docker.place / "root/launcher/volumes/data/volume.json"
    whole = record.read_text()
    record.write_text("{")
    docker.stop()
    docker.start()

    assert _names(docker) == ["data"]
    status = _inspected(docker, "data")["Status"]
    assert (status["Size"], f"its record {record} cannot be read" in status["Error"]) == (3001, True)
    assert "3.001kB in 1 volumes, 3.001kB of it reclaimable" in cnmctl.said("volume", "df")[1]
    for command in (("run", "--rm", "-v", "data:/d", IMAGE), ("volume", "rm", "data")):
        _, text = docker.fails(*command)
        assert "or remove it with docker volume rm --force data" in text, command
    docker.docker("volume", "prune", "-f")
    record.write_text(whole)
    docker.stop()
    docker.start()
    assert _sh(docker, "-v", "data:/d", IMAGE, "ls /d") == "zeros"

    record.write_text("{")
    docker.stop()
    docker.start()
    docker.docker("volume", "rm", "--force", "data")
    assert _names(docker) == []


def test_folders_among_the_volumes_that_are_none_survive_a_start(docker: Launcher) -> None:
    place = docker.place / "root/launcher/volumes"
    (place / "copied/files").mkdir(parents=True)
    (place / "lost+found").mkdir()
    docker.stop()
    docker.start()

    assert _names(docker) == ["copied"]
    assert sorted(os.listdir(place)) == ["copied", "lost+found"]
    docker.docker("volume", "rm", "-f", "copied")
    (place / "lost+found").rmdir()


def test_a_folder_that_is_called_as_no_volume_is_none(docker: Launcher) -> None:
    place = docker.place / "root/launcher/volumes"
    docker.docker("create", "--name", "user", "-v", "data:/d", IMAGE)
    coming = place / ".arriving-1"
    (coming / "_data").mkdir(parents=True)

    assert f"No such volume: {coming.name}" in docker.fails("volume", "inspect", coming.name)[1]
    for method, name in (
        ("GET", "data%2F..%2Fdata"),
        ("DELETE", "data%2F..%2Fdata"),
        ("DELETE", coming.name),
    ):
        connection = UnixConnection(docker.socket)
        connection.request(method, f"/volumes/{name}")
        answer = connection.getresponse()
        assert (answer.status, b"no such volume" in answer.read()) == (404, True)
        connection.close()
    assert "volume is in use" in docker.fails("volume", "rm", "data")[1]

    docker.clear()
    docker.docker("volume", "rm", "data")
    shutil.rmtree(coming)


def test_containers_with_volumes_outlive_the_launcher(docker: Launcher) -> None:
    docker.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast")
    docker.docker("run", "-d", "--name", "cc", "-v", "fast:/f", "-v", "data:/d", IMAGE, *_SLEEP)
    docker.docker("exec", "cc", "sh", "-c", "echo x | tee /f/x >/d/x")

    docker.kill()
    docker.start()

    assert docker.docker("exec", "cc", "cat", "/f/x", "/d/x") == "x\nx"
    assert docker.fails("volume", "rm", "fast")[0] == 1
    pid = int(docker.docker("inspect", "-f", "{{.State.Pid}}", "cc"))
    docker.kill()
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid, 20)
    docker.start()
    assert _mounted(docker) == []
    docker.docker("rm", "cc")
    docker.docker("volume", "rm", "fast")


def test_volumes_survive_a_power_cut(docker: Launcher) -> None:
    docker.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast")
    docker.docker("run", "-d", "--name", "cc", "-v", "fast:/f", "-v", "data:/d", IMAGE, *_SLEEP)
    docker.docker("exec", "cc", "sh", "-c", "echo x | tee /f/x >/d/x; sync")

    cut_power(docker)
    with switched_on(docker):
        assert _mounted(docker) == []
        assert _inspected(docker, "fast")["Status"]["MountedBy"] == []
        docker.docker("start", "cc")
        assert docker.docker("exec", "cc", "sh", "-c", "cat /d/x; ls /f") == "x"
