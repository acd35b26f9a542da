"""Go's fmt.Sprintf, as far as values of JSON go."""

from __future__ import annotations

import json
import re
from typing import Any

from cnm.cli.template.values import Moment, Struct, kind, text_of

_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d*))?(.?)", re.DOTALL)


def printf(form: str, *values: Any) -> str:
    """fmt.Sprintf: what does not fit is written into the text, as Go does."""
    rest = list(values)

    def verb(match: re.Match[str]) -> str:
        flags, width, precision, letter = match.groups()
        if letter == "%":
            return "%"
        if not letter:
            return "%!(NOVERB)"
        if not rest:
            return f"%!{letter}(MISSING)"
        value = rest.pop(0)
        text = _formatted(letter, value, flags, precision)
        if text is None and value is None:
            return f"%!{letter}(<nil>)"
        if text is None:
            return f"%!{letter}({kind(value)}={text_of(value)})"
        return _padded(text, flags, width, value)

    text = _VERB.sub(verb, form)
    if rest:
        text += "%!(EXTRA " + ", ".join(f"{kind(value)}={text_of(value)}" for value in rest) + ")"
    return text


def _padded(text: str, flags: str, width: str, value: Any) -> str:
    if not width:
        return text
    if "-" in flags:
        return text.ljust(int(width))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text.zfill(int(width)) if "0" in flags and is_number else text.rjust(int(width))


def _formatted(letter: str, value: Any, flags: str, precision: str | None) -> str | None:
    """None where the verb does not fit the value."""
    sign = "+" if "+" in flags else ""
    if letter == "v":
        return text_of(value)
    if letter == "T":
        return kind(value)
    if letter == "t":
        return text_of(value) if isinstance(value, bool) else None
    if isinstance(value, str):
        return _formatted_string(letter, value, precision)
    if isinstance(value, int) and not isinstance(value, bool):
        return _formatted_integer(letter, value, sign, flags)
    if isinstance(value, float) and letter in "feEgG":
        return (
            text_of(value)
            if letter in "gG" and precision is None
            else f"{value:{sign}.{precision or 6}{letter}}"
        )
    return text_of(value) if letter == "s" and isinstance(value, list | dict | Struct | Moment) else None


def _formatted_string(letter: str, value: str, precision: str | None) -> str | None:
    if precision is not None:
        value = value[: int(precision or 0)]
    if letter in "xX":
        digits = value.encode().hex()
        return digits.upper() if letter == "X" else digits
    return value if letter == "s" else json.dumps(value, ensure_ascii=False) if letter == "q" else None


def _formatted_integer(letter: str, value: int, sign: str, flags: str) -> str | None:
    if letter in "dxXob":
        prefix = "#" if "#" in flags and letter in "xX" else ""
        return f"{value:{sign}{prefix}{letter}}"
    if letter in "cqU" and 0 <= value < 0x110000:
        return {"c": chr(value), "q": f"'{chr(value)}'", "U": f"U+{value:04X}"}[letter]
    return None
