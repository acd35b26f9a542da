"""The snapshot plugin as a process of its own, and its command line, over one directory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from netns_fixtures import is_isolated

_COMMAND = (sys.executable, "-m", "cnm.plugin.snapshots.main")
_SECONDS = 20.0
NAME = "cnm-snapshots"


class SnapshotPlugin:
    """It serves from `start` to `stop` or `kill`, and any number of times; the command line works all the while."""

    def __init__(self, place: Path, plugin_dir: str) -> None:
        if not is_isolated():
            raise RuntimeError(
                "the plugin would be found by the machine's own dockerd: isolate the process first"
            )
        place.mkdir(parents=True, exist_ok=True)
        self.root = place / "root"
        self.log = place / "log"
        self._ready = place / "ready"
        self._plugin_dir = plugin_dir
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens. Raises RuntimeError with its log where it does not come up."""
        self._ready.unlink(missing_ok=True)
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(self._ready))
        self._told.settimeout(_SECONDS)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command("serve", "--plugin-dir", self._plugin_dir)],
                env={**os.environ, "NOTIFY_SOCKET": str(self._ready)},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            self._told.recv(100)
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"the plugin did not come up: {self.log.read_text()[-2000:]}") from None

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(_SECONDS)
            self.process = None
            self._told.close()

    def say(self, *arguments: str, stdin: bytes = b"") -> str:
        """What the command prints. Raises RuntimeError with what it says where it fails."""
        done = subprocess.run(self._command(*arguments), input=stdin, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode().strip())
        return done.stdout.decode()

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The command in a process group of its own, to be killed."""
        return subprocess.Popen(
            self._command(*arguments),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )

    def _command(self, *arguments: str) -> list[str]:
        return [*_COMMAND, "--root", str(self.root), *arguments]
