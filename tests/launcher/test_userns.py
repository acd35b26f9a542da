"""Containers whose root is a plain user of the host: network, files, exec, and what is left of them."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import NotBuilt
from cnm.kernel import mounting
from cnm.launcher.modes import UserMapping
from cnm.launcher.rootfs import Rootfs
from tests.support.launcher import Launcher
from tests.support.launcher_api import Api, ApiError

_SLEEP = ("sleep", "1000")
_FIRST = 200_000


@pytest.fixture
def docker(launcher: Launcher) -> Iterator[Launcher]:
    """Without containers before and after, where user namespaces may reach its files; network `net`."""
    launcher.place.chmod(0o711)
    launcher.cnmd.create_network("net", IPAM={"Config": [{"Subnet": "10.9.0.0/24"}]})
    yield launcher
    launcher.clear()
    launcher.docker("network", "rm", "net")


@pytest.fixture
def api(docker: Launcher) -> Api:
    """The docker CLI knows no user namespace but the host's and the daemon's default."""
    return Api(docker.socket)


def make(api: Api, name: str, *command: str, mode: str = f"private:{_FIRST}:65536", **host: Any) -> str:
    """A started container in a user namespace; its id."""
    host = {"NetworkMode": "net", "UsernsMode": mode} | host
    return api.run(name, {"Image": "busybox", "Cmd": command or _SLEEP, "HostConfig": host})


def test_root_inside_is_a_plain_user_of_the_host(docker: Launcher, api: Api) -> None:
    ident = make(api, "one")

    pid = api.inspect(ident)["State"]["Pid"]
    assert docker.docker("exec", "one", "id", "-u") == "0"
    assert Path(f"/proc/{pid}").stat().st_uid == _FIRST
    assert docker.docker("exec", "one", "cat", "/proc/self/uid_map").split() == ["0", str(_FIRST), "65536"]


def test_the_network_is_its_own_and_reached_by_name(docker: Launcher, api: Api) -> None:
    make(api, "one", CapAdd=["NET_ADMIN"])
    docker.docker("run", "-d", "--name", "plain", "--network", "net", "busybox", *_SLEEP)

    assert docker.docker("exec", "one", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    docker.docker("exec", "one", "ping", "-c1", "-w3", "plain")
    docker.docker("exec", "plain", "ping", "-c1", "-w3", "one")
    docker.docker("exec", "one", "ip", "link", "set", "lo", "mtu", "60000")  # root over its own network


def test_published_ports_lead_to_it(docker: Launcher, api: Api) -> None:
    serve = ("sh", "-c", "while :; do echo hello | nc -l -p 80; done")
    make(api, "web", *serve, PortBindings={"80/tcp": [{"HostPort": "8085"}]})

    heard = docker.docker("run", "--rm", "--network", "host", "busybox", "nc", "-w", "2", "127.0.0.1", "8085")

    assert heard == "hello"


def test_networks_are_connected_and_disconnected_while_it_runs(docker: Launcher, api: Api) -> None:
    make(api, "one")

    docker.docker("network", "connect", "bridge", "one")
    assert docker.docker("exec", "one", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]

    docker.docker("network", "disconnect", "bridge", "one")
    assert docker.docker("exec", "one", "ls", "/sys/class/net").split() == ["eth0", "lo"]


def test_files_of_the_image_are_roots_and_can_be_changed(docker: Launcher, api: Api) -> None:
    make(api, "one")

    docker.docker("exec", "one", "sh", "-c", "echo more >> /data/file; chown app /data/file; echo x > /new")

    shown = docker.docker(
        "exec", "one", "stat", "-c", "%u:%g", "/", "/etc", "/etc/passwd", "/data/file", "/new"
    )
    assert shown.split() == ["0:0", "0:0", "0:0", "1000:0", "0:0"]
    assert docker.docker("exec", "one", "cat", "/data/file") == "of the image\nmore"
    upper = Path(api.inspect("one")["GraphDriver"]["Data"]["UpperDir"])
    assert (upper / "new").stat().st_uid == _FIRST
    assert (upper / "data/file").stat().st_uid == _FIRST + 1000


def test_the_sandboxs_files_are_roots(docker: Launcher, api: Api) -> None:
    make(api, "one")

    docker.docker("exec", "one", "sh", "-c", "echo 192.0.2.1 added >> /etc/hosts")
    docker.docker("network", "connect", "bridge", "one")  # cnmd writes the file again

    assert "192.0.2.1 added" in docker.docker("exec", "one", "cat", "/etc/hosts")
    assert docker.docker("exec", "one", "stat", "-c", "%u", "/etc/hosts", "/etc/resolv.conf").split() == [
        "0",
        "0",
    ]


def test_binds_show_the_hosts_owners(docker: Launcher, api: Api, tmp_path: Path) -> None:
    tmp_path = tmp_path / "open"
    tmp_path.mkdir()
    (tmp_path / "theirs").write_text("of the host\n")
    (tmp_path / "shared").mkdir()
    os.chown(tmp_path / "shared", _FIRST, _FIRST)
    make(api, "one", Binds=[f"{tmp_path}:/there", f"{tmp_path / 'shared'}:/shared"])

    docker.docker("exec", "one", "sh", "-c", "cat /there/theirs; echo y > /shared/new")

    assert docker.docker("exec", "one", "stat", "-c", "%u", "/there/theirs") == "65534"
    assert docker.run("exec", "one", "touch", "/there/mine").returncode != 0
    assert (tmp_path / "shared/new").stat().st_uid == _FIRST


def test_a_working_directory_that_is_made_is_roots(docker: Launcher, api: Api) -> None:
    host = {"NetworkMode": "net", "UsernsMode": f"private:{_FIRST}:65536"}
    body = {"Image": "busybox", "Cmd": _SLEEP, "WorkingDir": "/made/here", "HostConfig": host}
    api.run("one", body)

    assert docker.docker("exec", "one", "stat", "-c", "%u %n", "/made", ".") == "0 /made\n0 ."


def test_users_of_the_image_run_commands(docker: Launcher, api: Api) -> None:
    make(api, "one")

    assert docker.docker("exec", "-u", "app", "one", "sh", "-c", "id -u; id -g").split() == ["1000", "1001"]
    assert docker.docker("exec", "-i", "one", "wc", "-c", given="12345") == "5"


# Volumes


@pytest.fixture
def volumes(docker: Launcher) -> Iterator[Path]:
    """Where they are; none are left."""
    yield docker.place / "root/launcher/volumes"
    docker.clear()
    docker.docker("volume", "rm", *docker.docker("volume", "ls", "-q").split())


def test_a_new_volume_is_roots(docker: Launcher, api: Api, volumes: Path) -> None:
    make(api, "one", Binds=["named:/named", "fresh:/data"])

    docker.docker("exec", "one", "sh", "-c", "echo x | tee /named/mine >/data/mine")

    looked = docker.docker(
        "exec", "one", "stat", "-c", "%u:%g", "/named", "/named/mine", "/data", "/data/file"
    )
    assert looked.split() == ["0:0"] * 4
    assert docker.docker("exec", "one", "cat", "/data/file") == "of the image"
    owners = [(volumes / path).stat().st_uid for path in ("named/_data", "fresh/_data", "fresh/_data/file")]
    assert owners == [_FIRST] * 3


def test_a_volume_takes_the_owners_that_the_image_has(docker: Launcher, api: Api, volumes: Path) -> None:
    script = "mkdir -p /owned/in; touch /owned/file; chown -R app:app /owned; chown 0:29 /owned/in"
    docker.docker("run", "--name", "maker", "busybox", "sh", "-c", script)
    docker.docker("commit", "maker", "owned")
    host = {"NetworkMode": "net", "UsernsMode": f"private:{_FIRST}:65536", "Binds": ["data:/owned"]}

    api.run("one", {"Image": "owned", "Cmd": _SLEEP, "HostConfig": host})

    shown = docker.docker("exec", "one", "stat", "-c", "%u:%g", "/owned", "/owned/file", "/owned/in")
    assert shown.split() == ["1000:1001", "1000:1001", "0:29"]
    docker.docker("exec", "-u", "app", "one", "touch", "/owned/mine")
    assert (volumes / "data/_data/mine").stat().st_uid == _FIRST + 1000
    docker.clear()
    docker.docker("rmi", "owned")


def test_a_tmpfs_volume_is_whose_it_was_made_for(docker: Launcher, api: Api, volumes: Path) -> None:
    """The kernel mounts it with the host's users, as Docker has it: the owner is to be named, or the image's is it."""
    for name, owner in (("theirs", ""), ("ours", f",uid={_FIRST},gid={_FIRST}"), ("filled", "")):
        options = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", f"o=size=1m{owner}")
        docker.docker("volume", "create", *options, name)

    make(api, "one", Binds=["theirs:/theirs", "ours:/ours", "filled:/data"])

    shown = docker.docker("exec", "one", "stat", "-c", "%u", "/theirs", "/ours", "/data")
    assert shown.split() == ["65534", "0", "65534"]
    docker.docker("exec", "one", "touch", "/ours/mine")


def test_volumes_are_shared_by_containers_of_different_users(
    docker: Launcher, api: Api, volumes: Path
) -> None:
    make(api, "one", Binds=["data:/data"])
    docker.docker("run", "-d", "--name", "plain", "--volumes-from", "one", "busybox", *_SLEEP)
    make(api, "same", VolumesFrom=["one:ro"])
    make(api, "other", mode="private:400000:65536", VolumesFrom=["one"])

    owners = [
        docker.docker("exec", name, "stat", "-c", "%u", "/data/file") for name in ("plain", "same", "other")
    ]
    assert owners == [str(_FIRST), "0", "65534"]
    docker.docker("exec", "plain", "sh", "-c", "echo more >>/data/file")
    assert docker.docker("exec", "same", "cat", "/data/file") == "of the image\nmore"
    assert docker.run("exec", "same", "touch", "/data/x").returncode != 0
    assert docker.run("exec", "other", "touch", "/data/x").returncode != 0


def test_what_is_copied_into_a_volume_is_roots(
    docker: Launcher, api: Api, volumes: Path, tmp_path: Path
) -> None:
    make(api, "one", Binds=["data:/data"])
    (tmp_path / "in").write_text("in")

    docker.docker("cp", str(tmp_path / "in"), "one:/data/running")
    docker.docker("stop", "-t", "0", "one")
    docker.docker("cp", str(tmp_path / "in"), "one:/data/stopped")

    tar = docker.run("cp", "one:/data", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(tar.encode())) as archive:
        owners = {each.name: each.uid for each in archive.getmembers()}
    assert owners == {"data": 0, "data/file": 0, "data/running": 0, "data/stopped": 0}
    docker.docker("start", "one")
    shown = docker.docker("exec", "one", "stat", "-c", "%u", "/data/running", "/data/stopped")
    assert shown.split() == ["0", "0"]


# Ends and what is left


def test_it_restarts_in_new_namespaces_with_its_files(docker: Launcher, api: Api) -> None:
    make(api, "one")
    docker.docker("exec", "one", "sh", "-c", "echo kept > /kept; chmod 700 /kept")

    docker.docker("restart", "-t", "0", "one")

    assert docker.docker("exec", "one", "cat", "/kept") == "kept"
    assert docker.docker("exec", "one", "stat", "-c", "%u", "/kept") == "0"
    assert docker.docker("exec", "one", "ls", "/sys/class/net").split() == ["eth0", "lo"]


def test_nothing_is_left_of_one_that_is_removed(docker: Launcher, api: Api) -> None:
    before = mounts(docker)
    ident = make(api, "one")
    assert len(list((docker.place / "run/launcher/namespaces" / ident).iterdir())) == 2

    docker.docker("rm", "-f", "one")

    assert mounts(docker) == before
    assert not list((docker.place / "run/launcher/namespaces").iterdir())
    assert not (docker.place / "root/launcher/containers" / ident).exists()


def mounts(docker: Launcher) -> list[str]:
    """Where something is mounted in the launcher's mount namespace."""
    assert docker.process is not None
    lines = Path(f"/proc/{docker.process.pid}/mountinfo").read_text().splitlines()
    return sorted(line.split()[4] for line in lines)


def test_one_that_cannot_start_leaves_nothing(docker: Launcher, api: Api) -> None:
    before = mounts(docker)

    with pytest.raises(ApiError, match="executable file not found"):
        make(api, "one", "nosuch")

    assert mounts(docker) == before
    assert not list((docker.place / "run/launcher/namespaces").iterdir())


def test_it_runs_on_while_the_launcher_is_killed(docker: Launcher, api: Api) -> None:
    make(api, "one")

    docker.kill()
    docker.start()

    docker.docker("exec", "one", "sh", "-c", "ls /sys/class/net; echo x > /new")
    docker.docker("rm", "-f", "one")
    assert not list((docker.place / "run/launcher/namespaces").iterdir())


def test_its_network_stays_while_cnmd_is_killed(docker: Launcher, api: Api) -> None:
    make(api, "one")

    docker.cnmd.kill()
    docker.cnmd.start()

    make(api, "two")
    docker.docker("exec", "one", "ping", "-c1", "-w3", "two")
    docker.docker("exec", "two", "ping", "-c1", "-w3", "one")


def test_processes_and_usage_are_shown(docker: Launcher, api: Api) -> None:
    make(api, "one")

    assert str(_FIRST) in docker.docker("top", "one", "-eo", "pid,uid,cmd")
    assert "one" in docker.docker("stats", "--no-stream", "--format", "{{.Name}}")


def test_changes_are_those_it_made(docker: Launcher, api: Api) -> None:
    make(api, "one")
    # Opened to be written, and left as it was: overlayfs copies it.
    docker.docker(
        "exec", "one", "sh", "-c", ": >> /data/file; touch -r /etc/passwd /data; echo x > /work/new"
    )

    assert docker.docker("diff", "one").splitlines() == ["C /work", "A /work/new"]


def test_copies_carry_the_owners_inside(docker: Launcher, api: Api, tmp_path: Path) -> None:
    make(api, "one")
    docker.docker("exec", "one", "sh", "-c", "echo x > /work/new; chown app:app /work/new")
    (tmp_path / "in").write_text("in\n")

    tar = docker.run("cp", "one:/work/new", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(tar.encode())) as archive:
        (out,) = archive.getmembers()
    docker.docker("cp", str(tmp_path / "in"), "one:/work/in")
    docker.docker("stop", "-t", "0", "one")
    docker.docker("cp", str(tmp_path / "in"), "one:/data/in")
    docker.docker("start", "one")

    assert (out.uid, out.gid) == (1000, 1001)
    shown = docker.docker("exec", "one", "stat", "-c", "%u", "/work/in", "/data/in", "/data", "/data/file")
    assert shown.split() == ["0", "0", "0", "0"]


def test_an_image_of_it_has_the_owners_inside(docker: Launcher, api: Api) -> None:
    make(api, "one")
    docker.docker("exec", "one", "sh", "-c", "echo x > /work/new; chown app:app /work/new; chown app /data")

    docker.docker("commit", "one", "made")

    show = ("stat", "-c", "%u:%g", "/work/new", "/data", "/work")
    assert docker.docker("run", "--rm", "made", *show).split() == ["1000:1001", "1000:0", "0:0"]
    docker.docker("rmi", "made")


def test_an_export_has_the_owners_inside(docker: Launcher, api: Api, tmp_path: Path) -> None:
    make(api, "one")
    docker.docker("exec", "one", "sh", "-c", "echo x > /work/new; chown app:app /work/new")

    docker.docker("export", "-o", str(tmp_path / "tar"), "one")

    with tarfile.open(tmp_path / "tar") as archive:
        assert archive.getmember("etc/passwd").uid == 0
        assert (archive.getmember("work/new").uid, archive.getmember("work/new").gid) == (1000, 1001)


def test_capabilities_of_files_are_committed_as_roots(docker: Launcher, api: Api) -> None:
    make(api, "one")
    upper = Path(api.inspect("one")["GraphDriver"]["Data"]["UpperDir"])
    docker.docker("exec", "one", "cp", "/bin/busybox", "/work/tool")
    namespaced = struct.pack("<6I", 0x03000001, 1 << 10, 0, 0, 0, _FIRST)
    os.setxattr(upper / "work/tool", "security.capability", namespaced)

    docker.docker("commit", "one", "made")

    docker.docker("run", "-d", "--name", "two", "made", *_SLEEP)
    root = api.inspect("two")["GraphDriver"]["Data"]["MergedDir"]
    with inside(docker, root) as seen:
        assert os.getxattr(seen / "work/tool", "security.capability") == struct.pack(
            "<5I", 0x02000001, 1 << 10, 0, 0, 0
        )
    docker.clear()
    docker.docker("rmi", "made")


@contextmanager
def inside(docker: Launcher, path: str) -> Iterator[Path]:
    """A path as the launcher sees it, with what it has mounted."""
    assert docker.process is not None
    yield Path(f"/proc/{docker.process.pid}/root{path}")


def test_its_size_and_state_are_shown(docker: Launcher, api: Api) -> None:
    make(api, "one", mode="private")

    found = api.inspect("one")

    assert found["HostConfig"]["UsernsMode"] == "private"
    assert found["NetworkSettings"]["Networks"]["net"]["IPAddress"].startswith("10.9.0.")


def test_the_hosts_users_are_the_default(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--userns", "host", "busybox", *_SLEEP)

    assert docker.docker("exec", "one", "cat", "/proc/self/uid_map").split()[:2] == ["0", "0"]


def test_a_terminal_works(docker: Launcher, api: Api) -> None:
    make(api, "one")

    # `script` of busybox gives the CLI a terminal.
    assert docker.docker("exec", "-t", "one", "sh", "-c", "test -t 1 && tty").startswith("/dev/pts/")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("private:4294967290:10", "HOSTUID+SIZE at most"),
        ("private:x", "it is host or private[:HOSTUID:SIZE]"),
        ("nosuch", "it is host or private[:HOSTUID:SIZE]"),
    ],
)
def test_a_wrong_mode_is_refused(docker: Launcher, api: Api, mode: str, words: str) -> None:
    with pytest.raises(ApiError, match=re.escape(words)):
        make(api, "one", mode=mode)

    assert docker.docker("ps", "-aq") == ""


def test_a_small_mapping_is_enough_for_root_alone(docker: Launcher, api: Api) -> None:
    make(api, "one", mode=f"private:{_FIRST}:1")

    assert docker.docker("exec", "one", "sh", "-c", "id -u; echo x > /new; stat -c %u /new").split() == [
        "0",
        "0",
    ]


def test_namespaces_are_shared_among_the_same_users(docker: Launcher, api: Api) -> None:
    make(api, "one", IpcMode="shareable")

    shared = {"NetworkMode": "container:one", "PidMode": "container:one", "IpcMode": "container:one"}
    make(api, "all", **shared)
    make(api, "some", PidMode="container:one")

    assert links(docker, "all") == links(docker, "one")
    assert links(docker, "some", "user", "pid") == links(docker, "one", "user", "pid")
    assert links(docker, "some", "net") != links(docker, "one", "net")
    docker.docker("exec", "some", "ping", "-c1", "-w3", "one")
    assert docker.docker("exec", "all", "ls", "/sys/class/net").split() == ["eth0", "lo"]


def links(docker: Launcher, name: str, *kinds: str) -> list[str]:
    """Which namespaces it is in."""
    kinds = kinds or ("user", "net", "pid", "ipc")
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    return docker.docker("exec", name, "sh", "-c", script).split()


def test_namespaces_of_other_users_are_not_joined(docker: Launcher, api: Api) -> None:
    docker.docker("run", "-d", "--name", "plain", "busybox", *_SLEEP)

    for mode in ({"NetworkMode": "container:plain"}, {"PidMode": "container:plain"}):
        with pytest.raises(ApiError, match="container plain: it is not in the same user namespace"):
            make(api, "one", **mode)
        docker.docker("rm", "one")


def test_a_file_system_without_idmapped_mounts_is_told(tmp_path: Path) -> None:
    mounting.mount("ramfs", str(tmp_path), "ramfs", "")
    layer = tmp_path / "storage/overlay/layer/diff"
    layer.mkdir(parents=True)
    (tmp_path / "place").mkdir()
    for parent in list(tmp_path.parents)[:-2]:  # but for / and /tmp itself
        parent.chmod(0o711)
    rootfs = Rootfs(str(tmp_path / "place"), str(tmp_path / "storage"), ["layer"], UserMapping(_FIRST, 65536))

    with pytest.raises(NotBuilt, match="idmapped mounts need Linux 5"):
        rootfs.mount()

    assert not (tmp_path / "place/mapped").exists()
    mounting.unmount(str(tmp_path))


_IN_A_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
_MAKE = """
from cnm.errors import CnmError
from cnm.launcher import user_namespaces
from cnm.launcher.modes import UserMapping
try:
    user_namespaces.make(PLACE, UserMapping(1000, 10))
except CnmError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (
            "echo 0 > /proc/sys/user/max_user_namespaces",
            "Unavailable cannot make a user namespace: this host's limit",
        ),
        (
            "echo 0 > /proc/sys/user/max_net_namespaces",
            "Unavailable cannot make a user namespace: this host's limit",
        ),
        (":", "Unavailable this host does not allow to map uids 1000 to 1009 into a user namespace"),
    ],
)
def test_what_the_host_does_not_allow_is_told(tmp_path: Path, before: str, words: str) -> None:
    """These sysctls are each user namespace's own."""
    script = _MAKE.replace("PLACE", repr(str(tmp_path / "pair")))

    done = subprocess.run(
        [*_IN_A_USER_NAMESPACE, f'{before} && exec "$@"', "sh", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.startswith(words), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_closed_folder_on_the_way_is_named(docker: Launcher, api: Api) -> None:
    docker.place.chmod(0o700)

    with pytest.raises(ApiError, match=f"user namespaces cannot reach .*: {docker.place} is closed"):
        make(api, "one")
