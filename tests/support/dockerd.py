"""A real dockerd of Debian's docker.io, unpacked by `make setup`, in the caller's isolated namespaces."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns_fixtures import is_isolated
from tests.support.private_etc import make_private
from tests.support.unpacked import environment, program

PROGRAMS = ("docker", "dockerd", "containerd", "runc", "iptables", "busybox")
"""What must be unpacked for a dockerd that runs containers."""


@dataclass(frozen=True)
class Dockerd:
    """A running dockerd; its plugins are found in the caller's private `/run/docker/plugins`."""

    socket: Path
    log: Path
    process: subprocess.Popen[Any]

    def docker(self, *arguments: str) -> str:
        """What the docker CLI prints, stripped. Raises RuntimeError with its error text."""
        done = subprocess.run(
            [str(program("docker")), "-H", f"unix://{self.socket}", *arguments],
            env=environment(),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()


@contextmanager
def start_dockerd(
    state: Path,
    *arguments: str,
    seconds: float = 60.0,
    popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen,
    env: Mapping[str, str] | None = None,
) -> Iterator[Dockerd]:
    """dockerd with everything that it keeps under `state`, answering when the block starts and gone when it ends.

    `arguments` are further flags. `popen` starts it in the namespace that plays the host; a netns_fixtures host's
    fits. `env` instead of `environment()`. Raises RuntimeError with the end of its log where it does not come up.
    """
    if not is_isolated():
        raise RuntimeError("dockerd would write the machine's own firewall: isolate the process first")
    make_private()
    state.mkdir(parents=True, exist_ok=True)
    socket, log = state / "docker.sock", state / "log"
    with log.open("ab") as output:
        process = popen(
            _command(state, socket, arguments),
            env=env or environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    daemon = Dockerd(socket, log, process)
    try:
        _wait_until_it_answers(daemon, time.monotonic() + seconds)
        yield daemon
    finally:
        _stop(daemon)
        _remove_cgroups(_cgroup(state))


def exec_root(state: Path) -> Path:
    """Where a dockerd of this state keeps what lives as long as its containers, the same at each of its starts.

    In the process's private /run: below `state` the sockets of containerd would have too long a path.
    """
    return Path("/run") / f"dockerd-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}"


def _command(state: Path, socket: Path, arguments: tuple[str, ...]) -> list[str]:
    # It ends with the test process, however that ends.
    return [
        *("setpriv", "--pdeathsig", "TERM", str(program("dockerd")), "--host", f"unix://{socket}"),
        *(
            "--data-root",
            str(state / "root"),
            "--exec-root",
            str(exec_root(state)),
            "--pidfile",
            str(state / "pid"),
        ),
        *("--storage-driver", "overlay2", "--cgroup-parent", f"/{_cgroup(state)}", *arguments),
    ]


def _cgroup(state: Path) -> str:
    return f"cnm-test-{os.getpid()}-{state.name}"


def _remove_cgroups(name: str) -> None:
    """Removes the empty parent that dockerd leaves in cgroup v2, or in each hierarchy of v1.

    The processes of a container that was just removed may not have ended yet.
    """
    deadline = time.monotonic() + 20
    for parent in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for cgroup in sorted((path for path in parent.rglob("*") if path.is_dir()), reverse=True):
            _remove_directory(cgroup, deadline)
        _remove_directory(parent, deadline)


def _remove_directory(path: Path, deadline: float) -> None:
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _wait_until_it_answers(daemon: Dockerd, deadline: float) -> None:
    while daemon.process.poll() is None and time.monotonic() < deadline:
        if daemon.socket.exists():
            try:
                daemon.docker("version")
            except RuntimeError:
                pass
            else:
                return
        time.sleep(0.05)
    raise RuntimeError(f"dockerd did not come up: {daemon.log.read_text()[-2000:]}")


def _stop(daemon: Dockerd) -> None:
    daemon.process.terminate()
    try:
        daemon.process.wait(30)
    except subprocess.TimeoutExpired:
        daemon.process.kill()
        daemon.process.wait()


def make_image(daemon: Dockerd, name: str = "busybox") -> str:
    """An image of one static busybox, made without a registry; returns its name."""
    busybox = program("busybox")
    archive = daemon.socket.parent / "image.tar"
    with tarfile.open(archive, "w") as tar:
        _add_directories(tar, "bin", "etc", "tmp", "proc", "sys", "dev", "root", "var", "www")
        tar.add(busybox, "bin/busybox")
        for applet in subprocess.run(
            [busybox, "--list"], capture_output=True, text=True, check=True
        ).stdout.split():
            if applet != "busybox":
                _add_link(tar, f"bin/{applet}", "busybox")
        _add_file(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        _add_file(tar, "www/index.html", "hello\n")
    daemon.docker("import", str(archive), name)
    os.unlink(archive)
    return name


def _add_directories(tar: tarfile.TarFile, *names: str) -> None:
    for name in names:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))
