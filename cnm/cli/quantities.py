"""Sizes, ages and texts as Docker's lists show them (the rules are those of github.com/docker/go-units)."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def decimal_size(size: float, precision: int = 4) -> str:
    """Bytes in powers of 1000: `1.23MB`."""
    return _size(size, 1000.0, _DECIMAL, precision)


def binary_size(size: float) -> str:
    """Bytes in powers of 1024: `1.177MiB`."""
    return _size(size, 1024.0, _BINARY, 4)


def _size(size: float, base: float, units: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{precision}g}{units[index]}"


def duration(seconds: float) -> str:
    """About how long, in words: `5 minutes`, `About an hour`."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if whole < 60:
        return {0: "Less than a second", 1: "1 second"}.get(max(whole, 0), f"{whole} seconds")
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    return f"{days // 30} months" if days < 730 else f"{int(seconds / 3600) // 24 // 365} years"


def age(created: int) -> str:
    """How long ago `created` is, in seconds since 1970."""
    return f"{duration(time.time() - created)} ago"


def local_time(moment: int) -> str:
    """Seconds since 1970 as Go prints a local time: `2025-01-02 03:04:05 +0100 CET`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment))


def ellipsis(text: str, width: int) -> str:
    """`text` where it is at most `width` columns wide, else what fits with a `…` behind it."""
    if text.isascii():
        return text if len(text) <= width else f"{text[: width - 1]}…"
    widths = [_columns(character) for character in text]
    if sum(widths) <= width:
        return text
    used, kept = 0, 0
    while used + widths[kept] <= width - 1:
        used += widths[kept]
        kept += 1
    return f"{text[:kept]}…"


def _columns(character: str) -> int:
    from unicodedata import east_asian_width

    return 2 if east_asian_width(character) in "WF" else 1


_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}


def quoted(text: str) -> str:
    """`text` in double quotes, with the escapes of Go's strconv.Quote."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
