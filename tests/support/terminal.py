"""A program with a terminal of its own, as in a window that a user types into and resizes."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0


class Terminal:
    """What is typed goes to the program, what it shows is kept in `shown`, escape sequences and all."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None,
        directory: Path | None,
        rows: int,
        columns: int,
    ) -> None:
        self._mine, self._its = os.openpty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.shown = ""
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=env,
            stdin=self._its,
            stdout=self._its,
            stderr=self._its,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the program with SIGWINCH."""
        termios.tcsetwinsize(self._mine, (rows, columns))

    def resize_until(self, rows: int, columns: int, text: str) -> None:
        """As often as it takes for `text` to be shown.

        Docker's CLI listens for SIGWINCH only once its first size has been taken (seen with strace): the program in
        the container may have that, and be shown, before.
        """
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown and time.monotonic() < deadline:
            self.resize(rows, columns - 1)  # no change, no signal
            self.resize(rows, columns)
            self._reads(1)
        self.expect(text)

    def type(self, text: str) -> None:
        os.write(self._mine, text.encode())

    def expect(self, text: str) -> str:
        """All that was shown up to `text`, which is taken out of `shown`. Fails where it does not come."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            has_ended = self.process.poll() is not None
            if not self._reads(0.1) and (has_ended or time.monotonic() > deadline):
                raise AssertionError(f"{text!r} was not shown, but {self.shown[-2000:]!r}")
        before, _, self.shown = self.shown.partition(text)
        return before

    def picture(self, wanted: Callable[[str], object]) -> str:
        """The first whole one that is as wanted, of a program that draws again and again from the upper left corner."""
        deadline = time.monotonic() + PATIENCE
        while True:
            drawn = re.sub(r"\x1b\[[0-9]*[A-Z]", "", self.expect("\x1b[H")).replace("\r", "")
            if drawn.strip() and wanted(drawn):
                return drawn
            assert time.monotonic() < deadline, f"it draws other pictures: {drawn!r}"

    def exit_code(self) -> int:
        """Waits for the end; what was shown until then is in `shown`."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end, but has shown {self.shown[-2000:]!r}"
            self._reads(0.05)
        while self._reads(0):
            pass
        return self.process.returncode

    def is_raw(self) -> bool:
        """Whether keys go to the program unprocessed. Read at the program's side, where it is set."""
        return not termios.tcgetattr(self._its)[3] & (termios.ICANON | termios.ECHO)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._mine)
        os.close(self._its)

    def _reads(self, seconds: float) -> bool:
        """Whether there was something within this time."""
        if not select.select([self._mine], [], [], seconds)[0]:
            return False
        self.shown += self._decoder.decode(os.read(self._mine, 65536))
        return True


@contextmanager
def on_a_terminal(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
    rows: int = 30,
    columns: int = 100,
) -> Iterator[Terminal]:
    """The program has the terminal as its controlling one; it is killed at the end of the block."""
    terminal = Terminal(command, env, directory, rows, columns)
    try:
        yield terminal
    finally:
        terminal.close()
