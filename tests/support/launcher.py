"""A real cnm-launcher beside a real cnmd, in the namespace of a host of the test; the docker CLI as its client."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from netns_fixtures import Topology
from tests.support.cnmd import PYTHON, Cnmd, UnixConnection
from tests.support.daemon_life import DaemonLife
from tests.support.daemon_starts import Popen, Process, start_daemon
from tests.support.launcher_root import make_root, pack
from tests.support.unpacked import ROOT, environment, program

PROGRAMS = ("docker", "runc", "conmon", "podman", "busybox", "docker-init")
IMAGE = "busybox"
SECCOMP = ROOT / "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json"
START_SECONDS = 20.0


@dataclass
class Launcher(DaemonLife):
    """One launcher over one directory, which is its cnmd's too; it can be killed and started again."""

    cnmd: Cnmd
    popen: Popen = subprocess.Popen
    config: str = ""
    run_name: str = "run"
    """Of its run directory: another than cnmd's has a `cnm.sock` of the test's making."""
    before: str = ""
    """Python, run in the launcher's process before anything else."""
    settings: str = ""
    """Lines of the file of settings that are no launcher's alone."""
    process: Process | None = field(default=None, init=False)

    @property
    def place(self) -> Path:
        return self.cnmd.place

    @property
    def run_dir(self) -> Path:
        return self.place / self.run_name

    @property
    def socket(self) -> str:
        return str(self.run_dir / "docker.sock")

    @property
    def cgroup(self) -> str:
        return f"cnm-test-{os.getpid()}-{self.place.name}"

    @property
    def log(self) -> str:
        return (self.place / "launcher.log").read_text()

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log if it ends instead."""
        config = self.place / "launcher.toml"
        settings = {"cgroup-parent": f"/{self.cgroup}", "seccomp-profile": str(SECCOMP)}
        lines = [f'{key} = "{value}"' for key, value in settings.items()]
        config.write_text("\n".join([self.settings, "[launcher]", *lines, self.config]))
        program = ["-m", "cnm.launcher.daemon"]
        if self.before:
            program = [
                "-c",
                f"import sys; {self.before}; from cnm.launcher.daemon import main; sys.exit(main())",
            ]
        command = [PYTHON, *program, "--config", str(config)]
        command += ["--root", str(self.place / "root"), "--run", str(self.run_dir)]
        with (self.place / "launcher.log").open("ab") as log:
            env = {**os.environ, **environment()}
            self.process = start_daemon(
                self.popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        deadline = time.monotonic() + START_SECONDS
        self.await_answer("cnm-launcher", deadline)

    def answers(self) -> bool:
        connection = UnixConnection(self.socket)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
        return False

    def await_limit(self) -> None:
        """Until its server has given somebody up who began now and says no more."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START_SECONDS)
            client.connect(self.socket)
            client.sendall(b"GET /half")
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")

    # The docker CLI

    def command(self, *arguments: str) -> list[str]:
        return [str(program("docker")), "-H", f"unix://{self.socket}", *arguments]

    def run(self, *arguments: str, given: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """The docker CLI with these arguments, whatever comes of it."""
        return subprocess.run(
            self.command(*arguments),
            env=environment(),
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def docker(self, *arguments: str, given: str = "") -> str:
        """What the docker CLI prints, stripped. Raises RuntimeError with its error text."""
        done = self.run(*arguments, given=given)
        if done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def fails(self, *arguments: str, given: str = "") -> tuple[int, str]:
        """(exit code, what it complains of) of a command that must fail."""
        done = self.run(*arguments, given=given)
        assert done.returncode != 0, f"docker {' '.join(arguments)} succeeds: {done.stdout}"
        return done.returncode, done.stderr.strip()

    def import_busybox(self) -> None:
        """As image `busybox`, with a shell as its command."""
        root = make_root(self.place / "busybox")
        archive = pack(root, self.place / "busybox.tar")
        with archive.open("rb") as file:
            done = subprocess.run(
                self.command("import", "--change", 'CMD ["sh"]', "-", IMAGE),
                env=environment(),
                stdin=file,
                capture_output=True,
                check=False,
            )
        assert done.returncode == 0, f"{done.stderr.decode()}\n{self.log}"
        shutil.rmtree(root)
        archive.unlink()

    def clear(self) -> None:
        """Every container goes."""
        if idents := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *idents)


@contextmanager
def running(
    place: Path,
    config: str = "",
    cnmd_config: str = "",
    before: str = "",
    started: Callable[[Popen], Popen] = lambda popen: popen,
) -> Iterator[Launcher]:
    """A host of its own with cnmd and launcher; ends with all containers gone. `started`: what is made of `popen`."""
    with Topology({"hosts": {"host": {}}}) as topology:
        host = topology.hosts["host"]
        cnmd = Cnmd(place, popen=started(host.popen), config=cnmd_config)
        cnmd.start()
        try:
            with beside(cnmd, config, before) as launcher:
                yield launcher
        finally:
            cnmd.stop()


@contextmanager
def beside(cnmd: Cnmd, config: str = "", before: str = "", settings: str = "") -> Iterator[Launcher]:
    """A launcher on the host of a cnmd that runs, with the image busybox; ends with all containers gone."""
    launcher = Launcher(cnmd, popen=cnmd.popen, config=config, before=before, settings=settings)
    try:
        launcher.start()
        launcher.import_busybox()
        yield launcher
    finally:
        if launcher.process is None:
            launcher.start()
        launcher.clear()
        launcher.stop()
        remove_cgroups(launcher.cgroup)


def remove_cgroups(name: str) -> None:
    """The empty parent of containers' cgroups, in each hierarchy."""
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (hierarchy / name).rmdir()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        Path("/sys/fs/cgroup", name).rmdir()
