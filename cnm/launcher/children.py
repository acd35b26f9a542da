"""Programs that work for one client, for as long as it takes; whoever listens to them, they are waited for at once.

A slow client keeps whoever reads a program's words for it from waiting. A child that has ended and that nobody waits
for is a stray to `cnm.launcher.exits`, which reaps it, and then nobody learns that it failed. So a thread waits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from cnm.errors import CnmError


class Child:
    """One run of a program; it ends with the block, whatever it does."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], **streams: Any) -> None:
        """`streams` are Popen's: stdin, stdout, stderr. Raises CnmError where it does not start."""
        try:
            self._popen = subprocess.Popen(command, env=dict(env), **streams)
            self._process = _opened(self._popen)
        except OSError as error:
            raise CnmError(f"cannot start {command[0]}: {(error.strerror or str(error)).lower()}") from None
        self._waiter = threading.Thread(target=self._popen.wait, name="child", daemon=True)
        self._waiter.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.close(self._process)
        if self._popen.stdout:
            self._popen.stdout.close()

    @property
    def stdout(self) -> IO[bytes]:
        """Of one that was started with a pipe for it."""
        assert self._popen.stdout is not None, "it has a pipe"
        return self._popen.stdout

    def has_ended(self, seconds: float) -> bool:
        """Whether it has, or does in time."""
        self._waiter.join(seconds)
        return not self._waiter.is_alive()

    def wait(self) -> int:
        """Its exit code, -N for signal N."""
        self._waiter.join()
        assert self._popen.returncode is not None, "it has ended"
        return self._popen.returncode

    def kill(self) -> None:
        """It, and what it has started where it leads a session; returns when it has ended. Twice is no more."""
        if not self.has_ended(0):
            with suppress(ProcessLookupError):  # of a session that setsid(1) has not come to make yet
                os.killpg(self._popen.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
        self.wait()


def _opened(popen: subprocess.Popen[Any]) -> int:
    """A descriptor of its process, without which it could not be ended, and ends at once. Raises OSError."""
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        with popen:
            popen.kill()
        raise
