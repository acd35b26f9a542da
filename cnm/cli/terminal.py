"""The terminal of the caller: raw mode, its size, and the keys that leave a container without ending it."""

from __future__ import annotations

import os
import signal
import termios
from contextlib import contextmanager

from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

DEFAULT_KEYS = "ctrl-p,ctrl-q"

_INPUT, _OUTPUT, _CONTROL, _LOCAL, _CHARACTERS = 0, 1, 2, 3, 6
"""Places in what termios.tcgetattr returns."""


def is_terminal(descriptor: int) -> bool:
    """Whether an open descriptor is a terminal; one that is not open is none."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns of a terminal, (0, 0) where it has none."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the process as it is typed while the block runs, as cfmakeraw(3) has it.

    The terminal is as before afterwards, also where a signal ends this program.
    """
    before = termios.tcgetattr(descriptor)

    def restore_and_die(number: int, _: FrameType | None) -> None:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    deadly = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in deadly:
        signal.signal(number, restore_and_die)
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, _made_raw(before))
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
        for number in deadly:
            signal.signal(number, signal.SIG_DFL)


def _made_raw(before: list[Any]) -> list[Any]:
    made = list(before)
    made[_INPUT] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    made[_OUTPUT] &= ~termios.OPOST
    made[_LOCAL] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    made[_CONTROL] = made[_CONTROL] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    characters = list(made[_CHARACTERS])
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    made[_CHARACTERS] = characters
    return made


class DetachKeys:
    """Watches what is typed for the sequence that detaches, `ctrl-p,ctrl-q` unless the user has another.

    The keys of a sequence that is not completed are held back until that is sure, and then sent on.
    """

    __slots__ = ("_keys", "_typed", "detached")

    def __init__(self, text: str = "") -> None:
        """Raises InvalidParameter for a malformed sequence."""
        self._keys = bytes(map(_key, (text or DEFAULT_KEYS).split(",")))
        self._typed = 0
        self.detached = False

    def passed(self, typed: bytes) -> bytes:
        """What of `typed` goes to the process; `detached` is set once the sequence is there."""
        passed = bytearray()
        for byte in typed:
            if byte != self._keys[self._typed]:
                passed += self._keys[: self._typed]
                self._typed = 0
            if byte != self._keys[self._typed]:
                passed.append(byte)
                continue
            self._typed += 1
            if self._typed == len(self._keys):
                self.detached = True
                break
        return bytes(passed)


_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def _key(text: str) -> int:
    """Of `a` or `ctrl-VALUE`, VALUE one of a-z @ [ \\ ] ^ _."""
    if len(text) == 1 and text.isascii():
        return ord(text)
    name = text.removeprefix("ctrl-")
    if name != text and name in _CONTROLS:
        return _CONTROLS[name]
    if name != text and len(name) == 1 and "a" <= name <= "z":
        return ord(name) - ord("a") + 1
    raise InvalidParameter(f"unknown character in detach keys: '{text}': use a letter, or ctrl- and one")
