"""Containers of our specifications under the real runc, without an engine: what they see is what they print."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cnm.launcher.container import Container
from cnm.launcher.host import Host
from cnm.launcher.modes import UserMapping
from cnm.launcher.mount_points import mount_points
from cnm.launcher.mounts import resolve
from cnm.launcher.ocispec import Inside, spec
from cnm.launcher.process import arguments, make_working_directory
from cnm.launcher.users import find_user
from cnm.launcher.validation import check, settled
from cnm.wire.containers import Config, HostConfig
from tests.support.launcher_root import make_root
from tests.support.unpacked import environment, program


class Outcome(NamedTuple):
    code: int
    output: str
    """Of both streams, and runc's own errors."""


class RuncBox:
    """`root` is everybody's root file system. Nothing may be alive when it is closed."""

    def __init__(self, place: Path, host: Host) -> None:
        self._place, self._host = place, host
        self._number = 0
        self.root = make_root(place / "root")
        self.netns = str(place / "netns")
        self.parent = f"/cnm-test-{os.getpid()}-{place.name}"

    def run(
        self, script: str, config: Config | None = None, host: HostConfig | None = None, **more: Any
    ) -> Outcome:
        """`sh -c script`, or what `config` says, to its end; `more` are fields of `Inside`."""
        bundle = self._bundle(script, config, host, **more)
        with (bundle / "output").open("wb") as output:
            done = subprocess.run(
                [*self._runc, "run", "--bundle", bundle, bundle.name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                timeout=60,
            )
        return Outcome(done.returncode, (bundle / "output").read_text().strip())

    @contextmanager
    def running(self, host: HostConfig | None = None) -> Iterator[tuple[str, int]]:
        """(id, pid) of a container that sleeps."""
        bundle = self._bundle("exec sleep 1000", None, host)
        with (bundle / "output").open("wb") as output:
            subprocess.run(
                [
                    *self._runc,
                    "run",
                    "--detach",
                    "--pid-file",
                    bundle / "pid",
                    "--bundle",
                    bundle,
                    bundle.name,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                check=True,
            )
        try:
            yield bundle.name, int((bundle / "pid").read_text())
        finally:
            self.runc("delete", "--force", bundle.name)

    def runc(self, *arguments: str, given: Any = None) -> str:
        """What a verb prints that starts nothing; `given` goes to its standard input as JSON."""
        done = subprocess.run(
            [*self._runc, *arguments],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
        return done.stdout

    @property
    def _runc(self) -> list[str]:
        return [str(program("runc")), "--root", str(self._place / "runc")]

    def _bundle(self, script: str, config: Config | None, host: HostConfig | None, **more: Any) -> Path:
        self._number += 1
        bundle = self._place / f"c{self._number}"
        bundle.mkdir()
        container = self._container(bundle.name, script, config or Config(), host or HostConfig())
        make_working_directory(str(self.root), container.config)
        inside = self._inside(container)._replace(**more)
        (bundle / "config.json").write_text(json.dumps(spec(container, inside, self._host)))
        return bundle

    def _container(self, name: str, script: str, config: Config, host: HostConfig) -> Container:
        if not config.cmd:
            config.cmd = ["sh", "-c", f"exec 2>&1\n{script}"]
        check(config, host, self._host)
        return Container(
            id=name,
            name=name,
            created=0,
            image="",
            layers=(),
            config=config,
            host=settled(host, self._host),
            networks={},
            args=arguments(config),
        )

    def _inside(self, container: Container) -> Inside:
        points = mount_points(container.config, container.host)
        return Inside(
            rootfs=str(self.root),
            netns=self.netns,
            hostname=container.config.hostname or container.name,
            user=find_user(str(self.root), container.config.user or "", container.host.group_add or ()),
            mounts=resolve(points, lambda point: f"{self._place}/{point.name}", self._host),
            namespaces={},
            cgroup=f"{self.parent}/{container.id}",
        )


@contextmanager
def runc_box(host: Host) -> Iterator[RuncBox]:
    """Below the process's own /run, where users of a user namespace may look, with a network namespace of its own."""
    with ExitStack() as undo:
        place = Path(undo.enter_context(tempfile.TemporaryDirectory(dir="/run", prefix="runc-")))
        place.chmod(0o755)
        box = RuncBox(place, host)
        undo.callback(_remove_cgroups, box.parent)
        Path(box.netns).touch()
        subprocess.run(["unshare", f"--net={box.netns}", "true"], check=True)
        undo.callback(subprocess.run, ["umount", box.netns], check=True)
        yield box


@contextmanager
def user_namespace(box: RuncBox, mapping: UserMapping) -> Iterator[Mapping[str, str]]:
    """Paths, by "user" and "net", of a pair where the network namespace is the user namespace's."""
    process = subprocess.Popen(
        ["unshare", "--user", "--net", "sh", "-c", "echo; read wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    paths = {kind: str(box.root.parent / f"{kind}-of-users") for kind in ("user", "net")}
    with ExitStack() as undo:
        undo.enter_context(process)
        process.stdout.readline()
        for kind in ("uid", "gid"):
            Path(f"/proc/{process.pid}/{kind}_map").write_text(f"0 {mapping.host_id} {mapping.size}\n")
        for kind, path in paths.items():
            Path(path).touch()
            subprocess.run(["mount", "--bind", f"/proc/{process.pid}/ns/{kind}", path], check=True)
            undo.callback(subprocess.run, ["umount", path], check=True)
        process.stdin.close()
        process.wait()
        yield paths


def _remove_cgroups(parent: str) -> None:
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        for cgroup in (Path(f"{hierarchy}{parent}"), Path(f"/sys/fs/cgroup{parent}")):
            if cgroup.is_dir():
                cgroup.rmdir()
