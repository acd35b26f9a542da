"""Volumes of two launchers on hosts of a cluster: what they hold, and `cnmctl volume move` between them."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.hosts import ClusterLab, eventually, together
from tests.support import launcher as lab
from tests.support.launcher import IMAGE, Launcher
from tests.support.moving_points import Points

Pair = tuple[Launcher, Launcher]


@contextmanager
def beside_all(cluster: ClusterLab, points: list[Points] | None = None) -> Iterator[list[Launcher]]:
    """A launcher on each host, which listens for volumes of the others."""
    hosts = list(cluster.h.values())
    with ExitStack() as stack:
        found = [
            stack.enter_context(lab.beside(host.cnmd, before=points[number].before if points else ""))
            for number, host in enumerate(hosts)
        ]
        together(found, await_listening)
        yield found


def await_listening(launcher: Launcher) -> None:
    """For volumes of other hosts."""
    eventually(lambda: _listens(launcher))


def _listens(launcher: Launcher) -> bool:
    assert launcher.cnmd.process is not None
    namespace = f"--net=/proc/{launcher.cnmd.process.pid}/ns/net"
    table = subprocess.run(
        ["nsenter", namespace, "ss", "-Hltn", "sport", "=", "2381"],
        capture_output=True,
        text=True,
        check=True,
    )
    return bool(table.stdout.strip())


def cleared(launcher: Launcher) -> None:
    """No container and no volume stays."""
    launcher.clear()
    if names := volumes(launcher):
        launcher.docker("volume", "rm", *names)


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
