"""The functions that Docker's templates may call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cnm.cli.template.printf import printf
from cnm.cli.template.values import Struct, StructMap, is_true, kind, text_of, to_json


class CallError(Exception):
    """A function that cannot work on its arguments; the evaluator says where."""


class Builtin(NamedTuple):
    """A function and how many arguments it takes (`most` None: any number from `least`)."""

    call: Callable[..., Any]
    least: int
    most: int | None


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
    "printf": Builtin(lambda form, *values: printf(_string(form), *values), 1, None),
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
