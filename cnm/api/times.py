"""Points in time as Docker's clients write them: seconds, RFC 3339 and its short forms, or a duration ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from cnm.errors import InvalidParameter

_SECONDS = re.compile(r"^-?[0-9]{1,12}(\.[0-9]{1,9})?$")
_DURATION = re.compile(r"^([0-9]+(\.[0-9]+)?(h|ms|m|s|us|µs|ns))+$")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|µs|ns)")
_DATE = re.compile(
    r"^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?(Z|[+-]\d\d:\d\d)?$", re.ASCII
)
_UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}


def parse(text: str, now: int) -> int:
    """Nanoseconds since the epoch; `now` in the same unit. Raises InvalidParameter naming the text."""
    if _SECONDS.match(text):
        return int(Decimal(text) * 10**9)
    if len(text) < 64 and _DURATION.match(text):
        return now - int(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    if date := _DATE.match(text):
        return _date(text, date)
    raise InvalidParameter(
        f"invalid time {text!r}: give seconds since 1970, a date, or a duration such as 10m"
    )


def _date(text: str, date: re.Match[str]) -> int:
    day, hour, minute, second, fraction, zone = date.groups()
    iso = f"{day}T{hour or '00'}:{minute or '00'}:{second or '00'}{(zone or 'Z').replace('Z', '+00:00')}"
    try:
        moment = datetime.fromisoformat(iso)
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return int((moment - epoch).total_seconds()) * 10**9 + int((fraction or "0").ljust(9, "0"))
    except (ValueError, OverflowError):
        raise InvalidParameter(f"invalid time {text!r}: there is no such date") from None
