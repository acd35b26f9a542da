"""JSON read as Go reads it: keys in any case, unknown ones ignored, null where nothing is said.

Other people's plugins are written for Docker, which decodes their answers so. Source: Go's encoding/json, Unmarshal.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from cnm.errors import InvalidParameter
from cnm.wire.codec import decode

T = TypeVar("T", bound=msgspec.Struct)


def decode_leniently(body: bytes, record: type[T]) -> T:
    """The record that `body` holds; the JSON text null counts as `{}`.

    Raises InvalidParameter, also for an empty body: Go finds an unexpected end there.
    """
    if not body.strip():
        raise InvalidParameter("invalid JSON: unexpected end of the text")
    found = decode(body, object)
    if found is not None and not isinstance(found, dict):
        raise InvalidParameter("invalid JSON: expected object")
    return decode(msgspec.json.encode(_folded(found or {}, record)), record)


def _folded(value: Any, kind: Any) -> Any:
    """`value` with the keys that records of `kind` have, without nulls where records have defaults."""
    kind = _without_none(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        fields = _fields(kind)
        known = ((fields.get(key.lower()), inner) for key, inner in value.items())
        return {key: _folded(inner, of) for (key, of), inner in _present(known)}
    if get_origin(kind) is list and isinstance(value, list):
        (of,) = get_args(kind)
        return [_folded({} if inner is None else inner, of) for inner in value]
    return value


def _present(pairs: Any) -> Any:
    return ((field, inner) for field, inner in pairs if field is not None and inner is not None)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    """(key, type) of each field by its key in lower case."""
    hints = get_type_hints(kind)
    return {f.encode_name.lower(): (f.encode_name, hints[f.name]) for f in msgspec.structs.fields(kind)}
