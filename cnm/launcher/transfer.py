"""podman copying an image from or to a registry, on a terminal of its own: only there it says how far it is.

The terminal also ends it: when the launcher is killed, the kernel hangs up (tty(4)), and podman does not go on alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import struct
import termios
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import Enum
from typing import NamedTuple

from cnm.errors import CnmError
from cnm.launcher.children import Child
from cnm.launcher.podman import last_words

_ROWS, _COLUMNS = 1000, 200
"""A row for each layer; podman leaves out what has no room."""
_BEAT_SECONDS = 0.5
_CHUNK = 65536
_KEPT_LINES = 20

_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_BLOB = re.compile(r"Copying blob ([0-9a-f]{12}) (.*)")
_AMOUNTS = re.compile(r"([0-9.]+)([kKMGT]?i?[bB]) / ([0-9.]+)([kKMGT]?i?[bB])")
_BEGINS = "Getting image source signatures"
_FACTORS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class State(Enum):
    FOUND = "found"
    """What is copied is known now; nothing is yet."""
    COPYING = "copying"
    DONE = "done"
    PRESENT = "present"


class Progress(NamedTuple):
    """Of one layer."""

    state: State
    layer: str = ""
    """12 hex digits of its digest, as the registry has it on the way here, of its tar on the way there."""
    current: int = 0
    total: int = 0
    """Bytes, roughly."""


class TransferFailed(CnmError):
    """podman's last words are the error's."""


class Transfer:
    """One run of podman; used up when it has been iterated over."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Raises CnmError where it cannot be started."""
        with ExitStack() as opened:
            try:
                self._printed = _closing(opened, os.memfd_create("printed", os.MFD_CLOEXEC))
                self._master, terminal = os.openpty()
                _closing(opened, self._master)
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise CnmError(f"{command[0]} gets no terminal: {why}") from None
            try:
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
                self._child = Child(
                    ["setsid", "--ctty", *command],
                    env,
                    stdin=terminal,
                    stdout=self._printed,
                    stderr=terminal,
                )
            finally:
                os.close(terminal)
            opened.pop_all()
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self.output = ""
        """What podman printed, when it is done."""

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, with whatever it has started."""
        os.close(self._master)
        with self._child:
            os.close(self._printed)

    def __iter__(self) -> Iterator[Progress | None]:
        """None now and then, where nothing changes. Raises TransferFailed at the end."""
        rest, last = b"", dict[str, Progress]()
        while (piece := self._read()) is not None:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                seen = self._seen(line)
                before = last.get(seen.layer) if seen else None
                # podman 5 draws a layer that is done once more as it was.
                is_done = before is not None and before.state is State.DONE
                if seen and seen != before and not is_done:
                    last[seen.layer] = seen
                    yield seen
            yield None
        self._seen(rest)
        code = self._child.wait()
        self.output = _content(self._printed).strip()
        if code != 0:
            raise TransferFailed(last_words("\n".join(self._said)))

    def _read(self) -> bytes | None:
        """b"" where nothing came for a while, None at the end."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        if not poll.poll(_BEAT_SECONDS * 1000):
            return b""
        try:
            return os.read(self._master, _CHUNK) or None
        except OSError as error:
            if error.errno != errno.EIO:  # that is the end of a terminal that nobody has open any more
                raise
            return None

    def _seen(self, raw: bytes) -> Progress | None:
        line = _CONTROL.sub(b"", raw).decode(errors="replace").strip()
        if found := _BLOB.match(line):
            return _progress(found[1], found[2])
        if line == _BEGINS:
            return Progress(State.FOUND)
        if line:
            self._said.append(line)
        return None


def _closing(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _content(file: int) -> str:
    """All that was written to it."""
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


def _progress(layer: str, words: str) -> Progress | None:
    """None for one that waits, or is not known to be needed yet."""
    if words.startswith("skipped"):
        return Progress(State.PRESENT, layer)
    if words.startswith("done"):
        return Progress(State.DONE, layer)
    found = _AMOUNTS.search(words)
    return Progress(State.COPYING, layer, *_amounts(found)) if found else None


def _amounts(found: re.Match[str]) -> tuple[int, int]:
    current, unit, total, unit_of_total = found.groups()
    return _bytes(current, unit), _bytes(total, unit_of_total)


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _FACTORS[unit[0].lower()])
