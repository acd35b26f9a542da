"""Containers of one busybox for tests of what runs them: bundles with a small config.json, real runc and conmon."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from cnm.launcher.exits import Exits
from cnm.launcher.monitor import Created, Monitor
from cnm.launcher.programs import Programs
from cnm.launcher.runtime import Runtime
from tests.support.unpacked import environment, program

PATIENCE = 20.0
"""Seconds until a test gives up on what must happen."""

_APPLETS = (
    "sh",
    "cat",
    "echo",
    "sleep",
    "stty",
    "yes",
    "head",
    "id",
    "env",
    "pwd",
    "seq",
    "true",
    "dd",
    "ls",
    "wc",
)


class Bundle(NamedTuple):
    """A container's id, and where its config.json and its log are."""

    id: str
    path: str
    log: str


class Containers:
    """Makes containers below `folder`, and knows how to end every one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = Programs(environment=environment())
        self.runtime = Runtime(self.programs, str(folder / "runc"))
        self.monitor = Monitor(self.runtime, str(folder / "exits"))
        self.exits = Exits()
        self.cgroup = f"cnm-test-{os.getpid()}-{secrets.token_hex(3)}"
        self._rootfs = folder / "rootfs"
        self._ended: dict[str, threading.Event] = {}
        _root_file_system(self._rootfs)

    def bundle(self, *command: str, tty: bool = False, **process: Any) -> Bundle:
        """A bundle whose container runs `command`."""
        name = secrets.token_hex(32)
        path = self.folder / "bundles" / name
        path.mkdir(parents=True)
        config = _config(name, str(self._rootfs), f"/{self.cgroup}/{name}", list(command), tty)
        config["process"].update(process)
        (path / "config.json").write_text(json.dumps(config))
        return Bundle(name, str(path), str(path / "log"))

    def create(
        self, bundle: Bundle, *, tty: bool = False, stdin: bool = False, stdin_once: bool = False
    ) -> Created:
        created = self.monitor.create(
            bundle.id, bundle.path, tty=tty, stdin=stdin, stdin_once=stdin_once, log=bundle.log
        )
        ended = self._ended[bundle.id] = threading.Event()
        self.exits.watch(bundle.id, created.monitor_pid, lambda _key: ended.set())
        return created

    def run(self, *command: str, tty: bool = False, stdin: bool = False) -> Bundle:
        """A container that has been started."""
        bundle = self.bundle(*command, tty=tty)
        self.create(bundle, tty=tty, stdin=stdin)
        self.runtime.start(bundle.id)
        return bundle

    def process(self, bundle: Bundle) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(bundle.path, "config.json").read_text())["process"]
        return found

    def await_exit(self, bundle: Bundle) -> int:
        """Its exit code, once its monitor has ended."""
        self.await_end(bundle)
        code = self.monitor.exit_code(bundle.id)
        assert code is not None
        return code

    def await_end(self, bundle: Bundle) -> None:
        """Until its monitor has ended."""
        assert self._ended[bundle.id].wait(PATIENCE), f"the monitor of {bundle.id} does not end"

    def close(self) -> None:
        for name, ended in self._ended.items():
            self.runtime.delete(name, force=True)
            assert ended.wait(PATIENCE), f"the monitor of {name} does not end"
        self.exits.close()
        for controller in Path("/sys/fs/cgroup").iterdir():
            with suppress(FileNotFoundError, NotADirectoryError):
                (controller / self.cgroup).rmdir()


@contextmanager
def containers(folder: Path) -> Iterator[Containers]:
    made = Containers(folder)
    try:
        yield made
    finally:
        made.close()


def eventually(condition: Callable[[], object], seconds: float = 0.01) -> None:
    """Until something is so that nobody tells; looks every so many seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(seconds)


def _root_file_system(place: Path) -> None:
    for name in ("bin", "proc", "dev", "tmp", "sys", "etc"):
        (place / name).mkdir(parents=True)
    shutil.copy(program("busybox"), place / "bin" / "busybox")
    for applet in _APPLETS:
        (place / "bin" / applet).symlink_to("busybox")
    (place / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (place / "tmp").chmod(0o1777)
    (place / "tmp" / "no-program").write_text("nothing")


def _config(name: str, rootfs: str, cgroup: str, command: list[str], tty: bool) -> dict[str, Any]:
    capabilities = ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]
    return {
        "ociVersion": "1.0.2",
        "hostname": name[:12],
        "root": {"path": rootfs},
        "process": {
            "terminal": tty,
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
        },
    }
