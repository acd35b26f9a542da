"""The values that templates work on, and how Go prints them."""

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


class NilPointer:
    """A pointer to nothing: what a field of Docker's records is where its key is left out of the JSON."""

    def __bool__(self) -> bool:
        return False


NIL = NilPointer()


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


def kind(value: Any) -> str:
    """The Go type that a message calls the value."""
    match value:
        case None | NilPointer():
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
        case NilPointer():
            return "<nil>"
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
        case NilPointer():
            return None
        case Moment():
            return value.text
        case dict():
            return {key: _plain(value[key]) for key in sorted(value)}
        case list():
            return [_plain(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value
