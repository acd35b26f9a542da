"""Signals as clients name them: "SIGTERM", "term", "15", "RTMIN+3"."""

from __future__ import annotations

import re
import signal

from cnm.errors import InvalidParameter

_RTMIN, _RTMAX = 34, 64
"""As C libraries number them: the kernel's first two are theirs."""

_NUMBERS = {member.name.removeprefix("SIG"): int(member) for member in signal.Signals} | {
    "IOT": 6,
    "POLL": 29,
    "CLD": 17,
    "UNUSED": 31,
    "RTMIN": _RTMIN,
    "RTMAX": _RTMAX,
}


def signal_number(text: str) -> int:
    """Raises InvalidParameter, in Docker's words, for what is no signal."""
    digits = text.isascii() and text.isdigit()
    number = int(text) if digits else _named(text.upper().removeprefix("SIG"))
    if not 1 <= number <= _RTMAX:
        raise InvalidParameter(f"invalid signal: {text}")
    return number


def _named(name: str) -> int:
    """0 for none."""
    found = re.fullmatch(r"(RTMIN|RTMAX)([+-]\d{1,2})", name, re.ASCII)
    if found is None:
        return _NUMBERS.get(name, 0)
    number = _NUMBERS[found[1]] + int(found[2])
    return number if _RTMIN <= number <= _RTMAX else 0
