"""A program with a terminal of its own, as in a window that a user types into and resizes."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0


class TerminalSession:
    """What is typed goes to the program, what it shows is kept in `shown`, escape sequences and all."""

    def __init__(self, command: Sequence[str], directory: Path, rows: int, columns: int) -> None:
        self._mine, self._its = os.openpty()
        self.shown = ""
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=self._its,
            stdout=self._its,
            stderr=self._its,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the program with SIGWINCH."""
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._mine, text.encode())

    def expect(self, text: str) -> str:
        """All that was shown up to `text`, which is taken out of `shown`. Fails where it does not come."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            self._read(deadline, text)
        before, _, self.shown = self.shown.partition(text)
        return before

    def exit_code(self) -> int:
        """Waits for the end; what was shown until then is in `shown`."""
        code = self.process.wait(PATIENCE)
        while select.select([self._mine], [], [], 0)[0]:
            self.shown += os.read(self._mine, 65536).decode()
        return code

    def is_raw(self) -> bool:
        """Whether keys go to the program unprocessed. Read at the program's side, where it is set."""
        return not termios.tcgetattr(self._its)[3] & (termios.ICANON | termios.ECHO)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._mine)
        os.close(self._its)

    def _read(self, deadline: float, text: str) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._mine], [], [], left)[0]:
            raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
        self.shown += os.read(self._mine, 65536).decode()


@contextmanager
def terminal_session(
    command: Sequence[str], directory: Path, rows: int = 30, columns: int = 100
) -> Iterator[TerminalSession]:
    session = TerminalSession(command, directory, rows, columns)
    try:
        yield session
    finally:
        session.close()
