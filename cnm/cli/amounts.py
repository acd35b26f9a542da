"""Flags that are amounts, as Docker writes them: `-m 1.5g`, `--cpus 0.5`, `--health-interval 1m30s`."""

from __future__ import annotations

import re

from cnm.cli.flags import INTEGER, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LIMIT = 2**63
NANO = 10**9

_UNITS = {
    "h": 3600 * NANO,
    "m": 60 * NANO,
    "s": NANO,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ns": 1,
}
"""Go's units of durations, in nanoseconds."""


def size(text: str) -> int:
    """Bytes of `512`, `64k`, `1.5 GiB`: powers of 1024. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:([kmgtp]?)(?:i?b)?)", text, re.IGNORECASE)
    if match is None or (text.lower().endswith("ib") and not match[2]):
        raise ValueError(f"invalid size: '{text}'")
    found = int(float(match[1]) * (1 << 10 * _POWERS[match[2].lower()]))
    if found >= _LIMIT:
        raise ValueError(f"invalid size: '{text}'")
    return found


def duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `1.5s`, `-3ms`, `0`. Raises ValueError with Go's words."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    parts = re.findall(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)", rest)
    if not parts or "".join(map("".join, parts)) != rest:
        raise ValueError(f'invalid duration "{text}"')
    for _, unit in parts:
        if unit not in _UNITS:
            what = f'unknown unit "{unit}" in' if unit else "missing unit in"
            raise ValueError(f'{what} duration "{text}"')
    found: int = sign * sum(_scaled(amount, _UNITS[unit]) for amount, unit in parts)
    if abs(found) >= _LIMIT:
        raise ValueError(f'invalid duration "{text}"')
    return found


def _scaled(amount: str, unit: int) -> int:
    """Exact where floating point would not be."""
    whole, _, fraction = amount.partition(".")
    parts: int = 10 ** len(fraction)
    return int(whole or "0") * unit + int(fraction or "0") * unit // parts


def nano_cpus(text: str) -> int:
    """Billionths of a processor of `1.5`, `3/2`, `5e-1`. Raises ValueError."""
    from fractions import Fraction

    try:
        nano = Fraction(text) * NANO
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def _swap(_: Any, text: str) -> int:
    return -1 if text == "-1" else size(text)


def _small(_: Any, text: str) -> int:
    number: int = INTEGER.add(0, text)
    if not 0 <= number < 2**16:
        raise ValueError("value out of range")
    return number


BYTES = Kind("bytes", int, lambda _, text: size(text))
SWAP = Kind("bytes", int, _swap)
DURATION = Kind("duration", int, lambda _, text: duration(text))
DECIMAL = Kind("decimal", int, lambda _, text: nano_cpus(text))
UINT16 = Kind("uint16", int, _small)
