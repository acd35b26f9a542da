"""`cnmctl volume move` between launchers of two hosts of a cluster: all of a volume, and what keeps it where it is."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterLab, eventually, joined_lab, together
from tests.support import launcher as lab
from tests.support.launcher import IMAGE, Launcher
from tests.support.unpacked import lacking

pytestmark = NEEDS_ETCD

Pair = tuple[Launcher, Launcher]
_SLEEP = ("sleep", "1000")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterLab]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with joined_lab(members=1, clients=1) as joined:
        yield joined


@pytest.fixture(scope="module")
def launchers(cluster: ClusterLab) -> Iterator[Pair]:
    with ExitStack() as stack:
        here, there = together(
            list(cluster.h.values()), lambda host: stack.enter_context(lab.beside(host.cnmd))
        )
        together((here, there), lambda launcher: eventually(lambda: listens(launcher)))
        yield here, there


def listens(launcher: Launcher) -> bool:
    """For volumes of other hosts."""
    assert launcher.cnmd.process is not None
    table = subprocess.run(
        ["nsenter", f"--net=/proc/{launcher.cnmd.process.pid}/ns/net", "ss", "-Hltn", "sport", "=", "2381"],
        capture_output=True,
        text=True,
        check=True,
    )
    return bool(table.stdout.strip())


@pytest.fixture
def pair(launchers: Pair) -> Iterator[Pair]:
    """Both without containers and volumes, before and after."""
    yield launchers
    for launcher in launchers:
        launcher.clear()
        if names := volumes(launcher):
            launcher.docker("volume", "rm", *names)
        assert os.listdir(place(launcher)) == []


def volumes(launcher: Launcher) -> list[str]:
    return launcher.docker("volume", "ls", "-q").split()


def place(launcher: Launcher) -> Path:
    return launcher.place / "root/launcher/volumes"


def content(launcher: Launcher, name: str = "data") -> Path:
    return place(launcher) / name / "_data"


def move(launcher: Launcher, *arguments: str) -> subprocess.CompletedProcess[str]:
    return launcher.cnmd.cnmctl("volume", "move", *arguments)


def moved(launcher: Launcher, *arguments: str) -> str:
    done = move(launcher, *arguments)
    assert done.returncode == 0, f"{done.stderr}\n{launcher.log[-3000:]}"
    return done.stdout


def refused(launcher: Launcher, *arguments: str) -> str:
    done = move(launcher, *arguments)
    assert done.returncode == 1, done.stdout
    return done.stderr.strip().removeprefix("Error response from daemon: ")


def shown(launcher: Launcher, name: str = "data") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(launcher.docker("volume", "inspect", name))[0]
    return found


def filled(launcher: Launcher, name: str = "data") -> None:
    launcher.docker("run", "--rm", "-v", f"{name}:/d", IMAGE, "sh", "-c", "echo kept >/d/file")


def tree(top: Path) -> dict[str, Any]:
    """Everything that can be told of a directory tree, by path."""
    first: dict[int, str] = {}
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        name = str(path.relative_to(top))
        same = first.setdefault(status.st_ino, name)
        told: list[Any] = [status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev]
        told += [same, {key: os.getxattr(path, key, follow_symlinks=False) for key in _attributes(path)}]
        if stat.S_ISREG(status.st_mode):
            told += [status.st_size, path.read_bytes() if status.st_size < 1 << 24 else b""]
        if stat.S_ISLNK(status.st_mode):
            told.append(os.readlink(path))
        found[name] = told
    return found


def _attributes(path: Path) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def fill_oddly(top: Path) -> None:
    """With everything that a file system can hold."""
    (top / "plain").write_text("plain\n")
    (top / "large").write_bytes(os.urandom(3_000_001))
    (top / "empty").touch()
    (top / "deep/er/est").mkdir(parents=True)
    (top / "deep/er/est/file").write_text("below")
    os.link(top / "plain", top / "deep/second name")
    os.symlink("/etc/passwd", top / "outside")
    os.symlink("plain", top / "inside")
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(top)  # a socket's path has 107 bytes at most
        try:
            listener.bind("socket")
        finally:
            os.chdir(before)
    with open(top / "holes", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"in the middle")
    (top / "name with \n and ü").write_text("x")
    os.mknod(os.fsencode(top) + b"/not \xff utf-8")
    os.setxattr(top / "plain", "user.note", b"a \xff value")
    os.setxattr(top / "deep", "trusted.note", b"of a directory")
    (top / "set").write_text("x")
    os.chown(top / "set", 1234, 5678)
    os.chmod(top / "set", 0o6751)
    os.setxattr(top / "set", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.lchown(top / "outside", 33, 44)
    os.chmod(top / "deep", 0o1770)
    os.chown(top / "deep/er", 7, 8)
    for path in (top / "deep/er/est", top / "deep", top / "plain", top):
        os.utime(path, ns=(10**18 + 5, 10**18 + 123_456_789))
    os.chown(top, 99, 98)
    os.chmod(top, 0o2775)


def test_a_volume_comes_with_its_data_and_goes_back(pair: Pair) -> None:
    here, there = pair
    here.docker("volume", "create", "--label", "tier=db", "data")
    filled(here)
    before = shown(here)

    assert moved(here, "data", "h2").splitlines() == ["data: Moving to h2", "data: Moved to h2"]

    assert (volumes(here), volumes(there)) == ([], ["data"])
    after = shown(there)
    assert [after[key] for key in ("Name", "Labels", "CreatedAt", "Driver", "Scope")] == [
        before[key] for key in ("Name", "Labels", "CreatedAt", "Driver", "Scope")
    ]
    assert there.docker("run", "--rm", "-v", "data:/d", IMAGE, "cat", "/d/file") == "kept"
    moved(there, "data", "192.0.2.1")
    assert (volumes(here), volumes(there)) == (["data"], [])
    assert here.docker("run", "--rm", "-v", "data:/d", IMAGE, "cat", "/d/file") == "kept"


def test_whatever_a_volume_can_hold_arrives(pair: Pair) -> None:
    here, there = pair
    here.docker("volume", "create", "data")
    fill_oddly(content(here))
    before = tree(content(here))

    moved(here, "data", "h2")

    assert tree(content(there)) == before
    assert (content(there) / "holes").stat().st_blocks * 512 < 1 << 20
