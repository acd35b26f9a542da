"""JSON bodies to typed records and back, with errors that name the key and what was expected there."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from cnm.errors import InvalidParameter

T = TypeVar("T")

encode = msgspec.json.Encoder().encode
"""A record (or a list or dict of them) as JSON bytes."""

_PLACED = re.compile(r"^(?P<problem>.*?)(?: - at `(?P<place>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<key>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<key>[^`]*)`$", re.DOTALL)
_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_TYPE_NAMES = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def decode(body: bytes, record: type[T]) -> T:
    """The record that `body` holds; an empty body counts as `{}`, as it does for Docker.

    Raises InvalidParameter, "invalid JSON: …" naming the key, or "unexpected content after JSON".
    """
    try:
        return _decoder(record).decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid JSON: {_explain(str(error))}") from None
    except msgspec.DecodeError as error:
        raise InvalidParameter(_malformed(str(error))) from None
    except UnicodeDecodeError:
        raise InvalidParameter("invalid JSON: the text is not UTF-8") from None
    except RecursionError:
        raise InvalidParameter("invalid JSON: nested too deeply") from None


def convert(what: str, value: Any, record: type[T]) -> T:
    """The record that a part of a decoded document is. Raises InvalidParameter naming `what` and the key."""
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid {what}: {_explain(str(error))}") from None


def _decoder(record: type[T]) -> msgspec.json.Decoder[T]:
    """Making a decoder costs far more than using it, so each is made once."""
    if record not in _DECODERS:
        _DECODERS[record] = msgspec.json.Decoder(record)
    return _DECODERS[record]


def _malformed(error: str) -> str:
    reason = error.removeprefix("JSON is malformed: ")
    if reason.startswith("trailing characters"):
        return "unexpected content after JSON"
    if reason == "Input data was truncated":
        reason = "unexpected end of the text"
    return f"invalid JSON: {reason}"


def _explain(error: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.Name`" as "Name: expected string, got integer"."""
    placed = _PLACED.match(error)
    problem, place = (placed["problem"], placed["place"] or "") if placed else (error, "")
    place = place.removeprefix("$").removeprefix(".")
    if missing := _MISSING.match(problem):
        return f"{_join(place, missing['key'])} is required"
    if unknown := _UNKNOWN.match(problem):
        return f"unknown key {_join(place, unknown['key'])!r}"
    wording = re.sub(r"`([^`]*)`", lambda quoted: _plain(quoted[1]), problem)
    wording = wording[:1].lower() + wording[1:]
    return f"{place}: {wording}" if place else wording


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _plain(types: str) -> str:
    return " or ".join(_TYPE_NAMES.get(name, name) for name in types.split(" | ") if name != "null") or "null"
