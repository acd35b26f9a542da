"""A program on a pseudo-terminal, typed at and read by a test."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_PATIENCE = 20.0


class Terminal:
    """What was read is kept: `expect` looks in what came since it found something last."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self._read = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def expect(self, text: str) -> str:
        """Everything up to the text and with it. Raises AssertionError where it does not come."""
        deadline = time.monotonic() + _PATIENCE
        while (place := self._read.find(text.encode())) < 0:
            self._receive(deadline, text)
        end = place + len(text.encode())
        found, self._read = self._read[:end], self._read[end:]
        return found.decode("utf-8", "replace")

    def _receive(self, deadline: float, wanted: str) -> None:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        try:
            content = os.read(self._master, 65536) if ready else b""
        except OSError:  # EIO: the program has ended
            content = b""
        assert content, f"{wanted!r} never came, but {self._read.decode('utf-8', 'replace')!r}"
        self._read += content

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        deadline = time.monotonic() + _PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; it said {self._read!r}"
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                try:
                    self._read += os.read(self._master, 65536)
                except OSError:
                    continue
        return self.process.returncode


@contextmanager
def on_a_terminal(
    command: Sequence[str], env: Mapping[str, str], *, rows: int = 24, columns: int = 80
) -> Iterator[Terminal]:
    """The program has the terminal as its controlling one; it is killed at the end of the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=dict(env),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)
