"""The functions that Docker's templates may call, and how Go prints the values they work on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Struct:
    """A Go struct: fields by Go's names, in their order, and methods.

    `json` is what the `json` function shows for it; with `html` it escapes <, > and &, as Docker's lists do.
    """

    def __init__(self, kind: str, fields: dict[str, Any], json: Any = None, html: bool = False) -> None:
        self.kind = kind
        self.fields = fields
        self.methods: dict[str, Callable[..., Any]] = {}
        self.json = fields if json is None else json
        self.html = html


class StructMap(dict[str, Struct]):
    """A map of structs, which has a struct of empty fields for a key that it lacks."""

    def __init__(self, items: dict[str, Struct], zero: Struct) -> None:
        super().__init__(items)
        self.zero = zero


class Moment(NamedTuple):
    """A time.Time: `text` is RFC 3339, which json shows; printed bare it reads as Go writes it."""

    text: str

    def __str__(self) -> str:
        match = re.fullmatch(r"(\d+-\d+-\d+)T(\d+:\d+:\d+(?:\.\d+)?)(Z|[+-]\d\d:\d\d)", self.text)
        if match is None:
            return self.text
        day, clock, zone = match.groups()
        if "." in clock:
            clock = clock.rstrip("0").rstrip(".")
        offset = "+0000 UTC" if zone == "Z" else f"{zone.replace(':', '')} {zone.replace(':', '')}"
        return f"{day} {clock} {offset}"


class CallError(Exception):
    """A function that cannot work on its arguments; the evaluator says where."""


class Builtin(NamedTuple):
    """A function and how many arguments it takes (`most` None: any number from `least`)."""

    call: Callable[..., Any]
    least: int
    most: int | None


def kind(value: Any) -> str:
    """The Go type that a message calls the value."""
    match value:
        case None:
            return "nil"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case Struct():
            return value.kind
        case Moment():
            return "time.Time"
        case list():
            return "[]interface {}"
    return "map[string]interface {}"


def is_true(value: Any) -> bool:
    """Go's truth: false, 0, nil, and whatever is empty are not true; a struct always is."""
    return True if isinstance(value, Struct | Moment) else bool(value)


def text_of(value: Any, nil: str = "<nil>") -> str:
    """The value as Go's %v prints it."""
    match value:
        case None:
            return nil
        case bool():
            return "true" if value else "false"
        case float():
            return _float_text(value)
        case list():
            return "[" + " ".join(map(text_of, value)) + "]"
        case dict():
            return "map[" + " ".join(f"{key}:{text_of(value[key])}" for key in sorted(value)) + "]"
        case Struct():
            return "{" + " ".join(map(text_of, value.fields.values())) + "}"
    return str(value)


def _float_text(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)]
    from decimal import Decimal

    shortest = Decimal(repr(value)).normalize()
    mantissa, _, exponent = f"{shortest:e}".partition("e")
    if -4 <= int(exponent) < 6:
        return f"{shortest:f}"
    return f"{mantissa}e{int(exponent):+03d}"


def to_json(value: Any) -> str:
    """JSON as Go writes it: no spaces, maps sorted, structs in their order."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, Struct) and value.html:
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def _plain(value: Any) -> Any:
    match value:
        case Struct():
            return value.json
        case Moment():
            return value.text
        case dict():
            return {key: _plain(value[key]) for key in sorted(value)}
        case list():
            return [_plain(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise CallError(f"expected string; found {text_of(value)}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CallError(f"expected integer; found {text_of(value)}")
    return value


def _join(items: Any, separator: Any) -> str:
    if not isinstance(items, list):
        raise CallError(f"wrong type for value; expected []string; got {kind(items)}")
    return _string(separator).join(map(_string, items))


def _title(text: Any) -> str:
    return re.sub(r"(?<!\w)\w", lambda match: match[0].upper(), _string(text))


def _pad(text: Any, left: Any, right: Any) -> str:
    return " " * _whole(left) + _string(text) + " " * _whole(right) if _string(text) else ""


def _truncate(text: Any, size: Any) -> str:
    if _whole(size) < 0:
        raise CallError(f"slice bounds out of range [:{size}]")
    return _string(text)[:size]


def _split(text: Any, separator: Any) -> list[str]:
    return _string(text).split(separator) if _string(separator) else list(text)


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, list | dict):
        return len(value)
    raise CallError("len of nil pointer" if value is None else f"len of type {kind(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return value.get(_string(key), _zero(value))
    if not isinstance(value, list | str):
        raise CallError(
            "index of untyped nil" if value is None else f"can't index item of type {kind(value)}"
        )
    if not 0 <= _whole(key) < len(value):
        raise CallError(f"index out of range: {key}")
    return value[key] if isinstance(value, list) else value.encode()[key]


def _zero(values: dict[str, Any]) -> Any:
    """What Go's index answers for a missing key: the zero value of what the map holds."""
    if isinstance(values, StructMap):
        return values.zero
    return "" if all(isinstance(item, str) for item in values.values()) else None


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, list | str):
        raise CallError(f"can't slice item of type {kind(value)}")
    start, end = (*map(_whole, bounds), *(0, len(value))[len(bounds) :])
    if not 0 <= start <= end <= len(value):
        raise CallError(f"index out of range: {start if start > len(value) else end}")
    return value[start:end]


def _print(*values: Any) -> str:
    pieces: list[str] = []
    for before, value in zip((None, *values), values, strict=False):
        if pieces and not isinstance(before, str) and not isinstance(value, str):
            pieces.append(" ")
        pieces.append(text_of(value))
    return "".join(pieces)


_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d*))?(.?)", re.DOTALL)


def _printf(form: Any, *values: Any) -> str:
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

    text = _VERB.sub(verb, _string(form))
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


def _escaped_html(*values: Any) -> str:
    escapes = {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return "".join(escapes.get(character, character) for character in _only_text(values))


def _escaped_query(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_only_text(values))


def _only_text(values: tuple[Any, ...]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else _print(*values)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Any, second: Any) -> bool:
    for value in (first, second):
        if isinstance(value, list | dict | Struct):
            raise CallError(f"non-comparable type {text_of(value)}: {kind(value)}")
    if first is not None and second is not None and kind(first) != kind(second):
        raise CallError("incompatible types for comparison")
    return bool(first == second)


def _less(first: Any, second: Any) -> bool:
    if kind(first) != kind(second):
        raise CallError("incompatible types for comparison")
    if not isinstance(first, str | int | float) or isinstance(first, bool):
        raise CallError("invalid type for comparison")
    return bool(first < second)


FUNCTIONS: dict[str, Builtin] = {
    "json": Builtin(to_json, 1, 1),
    "split": Builtin(_split, 2, 2),
    "join": Builtin(_join, 2, 2),
    "title": Builtin(_title, 1, 1),
    "lower": Builtin(lambda text: _string(text).lower(), 1, 1),
    "upper": Builtin(lambda text: _string(text).upper(), 1, 1),
    "pad": Builtin(_pad, 3, 3),
    "truncate": Builtin(_truncate, 2, 2),
    "len": Builtin(_length, 1, 1),
    "index": Builtin(_index, 1, None),
    "slice": Builtin(_slice, 1, 3),
    "not": Builtin(lambda value: not is_true(value), 1, 1),
    "print": Builtin(_print, 0, None),
    "println": Builtin(lambda *values: " ".join(map(text_of, values)) + "\n", 0, None),
    "printf": Builtin(_printf, 1, None),
    "html": Builtin(_escaped_html, 0, None),
    "urlquery": Builtin(_escaped_query, 0, None),
    "eq": Builtin(_equal, 1, None),
    "ne": Builtin(lambda first, second: not _same(first, second), 2, 2),
    "lt": Builtin(_less, 2, 2),
    "le": Builtin(lambda first, second: not _less(second, first), 2, 2),
    "gt": Builtin(lambda first, second: _less(second, first), 2, 2),
    "ge": Builtin(lambda first, second: not _less(first, second), 2, 2),
}
"""Functions that work on their arguments' values alone."""

SHORT_CIRCUIT = ("and", "or")
"""Functions whose later arguments are looked at only when the earlier ones do not decide."""

HEADING = {"json", "title", "lower", "upper", "truncate", "join", "split"}
"""Functions that leave a heading as it is: they are meant for what stands under it."""
