"""The life of a daemon's process in a test: until it answers, killed, stopped, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from typing import Any


class DaemonLife(ABC):
    """A daemon that says how it is started, whether it answers and what it has logged."""

    process: Any
    """Its Popen; None where it does not run."""

    @property
    @abstractmethod
    def log(self) -> str: ...

    @abstractmethod
    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log if it ends instead."""

    @abstractmethod
    def answers(self) -> bool: ...

    def await_answer(self, program: str, deadline: float) -> None:
        """`deadline` is of the monotonic clock. Raises RuntimeError as `start`."""
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program} did not start:\n{self.log}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing is told goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        code: int = self.process.wait(30)
        self.process = None
        return code
