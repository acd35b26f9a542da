"""What /proc/PID/cmdline shows of this process, without an execve(2)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

ROOM = " " * 4096
"""An argument for the start of a process that is to show other arguments later, so that there is room for them."""


def set_arguments(command: Sequence[bytes]) -> None:
    """Show these words, and empty ones behind them; words for which there is no room are cut off.

    They are written over the arguments that the process was started with.
    """
    start, end = _shown()
    words = b"".join(word + b"\0" for word in command)
    # A last byte that is none would have the kernel stop at the first word (get_mm_cmdline in fs/proc/base.c).
    text = words[: end - start - 1].ljust(end - start, b"\0")
    ctypes.memmove(start, text, len(text))


def _shown() -> tuple[int, int]:
    """The memory that is shown: fields 48 and 49 of /proc/PID/stat (proc(5))."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[45]), int(fields[46])
