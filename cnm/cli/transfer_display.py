"""Progress of a pull or a push as docker shows it: a line for each layer on a terminal, each change once elsewhere."""

from __future__ import annotations

import sys

from cnm.cli.client import DaemonError
from cnm.cli.terminal import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_STANDARD_OUTPUT = 1


def show(messages: Iterable[dict[str, Any]], *, quiet: bool = False) -> None:
    """Of the answer's messages, as they come. Raises DaemonError for one that tells a failure."""
    lines = _Lines() if is_terminal(_STANDARD_OUTPUT) else None
    for message in messages:
        if message.get("error"):
            raise DaemonError(message["error"], 500)
        if "status" not in message or quiet:
            continue
        if lines is not None:
            lines.show(message)
        elif not message.get("progress"):
            _write(f"{_text(message)}\n")


class _Lines:
    """Lines that are written over: one for each id."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._count = 0

    def show(self, message: dict[str, Any]) -> None:
        about = message.get("id", "")
        if not about or "progressDetail" not in message:
            self._places.clear()  # what comes now stays below
            self._count = 0
            _write(f"{_text(message)}\n")
            return
        if about not in self._places:
            self._places[about] = self._count
            self._count += 1
            _write("\n")
        above = self._count - self._places[about]
        _write(f"\x1b[{above}A\r\x1b[2K{_text(message)}\r\x1b[{above}B")


def _text(message: dict[str, Any]) -> str:
    about = f"{message['id']}: " if message.get("id") else ""
    progress = f" {message['progress']}" if message.get("progress") else ""
    return f"{about}{message['status']}{progress}"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
